import Foundation

func larger(_ a: Int, _ b: Int) -> Int {
    guard a > b else { return b }
    return a
}

class Shelf {
    func add(book: String) {
        print(book)
    }
}

print(
    "a"
)
