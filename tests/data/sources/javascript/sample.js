import { join } from "node:path";
import { readFile } from "node:fs";

export function place(name) {
  if (!name) return null;
  return join("a", name);
}

class Shelf {
  add(book) {
    this.books = [...this.books, book];
  }
}

const load = (name) => {
  return place(name);
};

place(
  "b",
);
