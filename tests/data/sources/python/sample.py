import json
import math


def area(radius):
    if radius < 0:
        raise ValueError(radius)
    return math.pi * radius**2


class Circle:
    def __init__(self, radius):
        for value in (radius,):
            self.radius = value


print(
    1,
    2,
)
