package sample;

import java.util.List;
import java.util.Set;

class Sample {
    int sum(List<Integer> numbers) {
        int total = 0;
        for (int number : numbers) {
            total += number;
        }
        return total;
    }

    String name = String.join(
        "-",
        "a");
}
