<?php
use App\Shapes\Circle;
use App\Shapes\Square;

function round_shape(int $radius): Circle
{
    return new Circle($radius);
}

class Shelf
{
    public function add(string $book): void
    {
        $this->books[] = $book;
    }
}

print_all(
    1,
);
