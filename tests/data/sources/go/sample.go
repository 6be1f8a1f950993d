package sample

import (
	"os"
	"strings"
)

func Shout(word string) string {
	if word == "" {
		return word
	}
	return strings.ToUpper(word)
}

type Shelf struct {
	Books []string
}

var all = append(
	[]string{},
	"a")
