import { join } from "node:path";
import { readFile } from "node:fs";

export function place(name: string): string {
  return name
    ? join("a", name)
    : "";
}

interface Shelf {
  books: string[];
}

const found = place(
  "b",
);
