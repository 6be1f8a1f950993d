#!/bin/sh
. ./lib.sh

greet() {
    if [ -n "$1" ]; then
        echo "hello $1"
    fi
}

printf '%s %s\n' \
    a \
    b
