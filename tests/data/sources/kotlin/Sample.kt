package sample

import kotlin.math.max
import kotlin.math.min

fun larger(a: Int, b: Int): Int {
    return when (a) {
        0 -> b
        else -> max(a, b)
    }
}

class Shelf {
    fun add(book: String) {
        println(book)
    }
}

val all = listOf(
    1,
)
