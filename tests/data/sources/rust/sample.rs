use std::cmp::max;
use std::fs;

fn larger(a: u32, b: u32) -> u32 {
    match a {
        0 => b,
        _ => max(a, b),
    }
}

struct Point {
    x: u32,
}

fn main() { assert_eq!(
    larger(1, 2),
    2); }
