#include <vector>

template <typename T>
T sum(const std::vector<T>& numbers) {
    T total{};
    for (auto number : numbers) total += number;
    return total;
}

struct Point {
    int x;
    int y;
};

auto all = sum(
    std::vector<int>{
        1});
