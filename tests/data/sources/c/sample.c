#include <stdio.h>

struct point {
    int x;
    int y;
};

int larger(int a, int b) {
    if (a > b)
        return a;
    return b;
}
