"""How each language's solutions are checked, and run against assertions. One entry a language."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Commands = tuple[tuple[str, ...], ...]

PASSED = "magicoder: all tests passed"
"""The last line that a test program prints. Without it a solution that exits early would pass."""


@dataclass(frozen=True)
class Toolchain:
    """One language's compiler or interpreter.

    tool: the program that must be there.
    version: prints its version.
    file: the solution's file.
    compile: the commands that check it alone.
    test: the files of a test program, in which `{solution}` and `{tests}` stand for the two.
    run: the commands that build and run it; only the last one runs code of the two.
    ask: what the teacher shall write.
    line: one such assertion as a regular expression that xgrammar knows, no longer than a line.
    head: put before a solution that has no line that starts with its first word.
    dropped: what is taken out of a solution, as a regular expression.
    imports: what is taken out of the tests and put where `{imports}` stands.
    extra: files that every command finds.
    home: prints, outside the sandbox, the folder of a toolchain that may lie outside /usr.
    """

    tool: str
    version: tuple[str, ...]
    file: str
    compile: Commands
    test: Mapping[str, str]
    run: Commands
    ask: str
    line: str
    head: str = ""
    imports: str = r"(?!)"
    dropped: str = r"(?!)"
    extra: Mapping[str, str] = field(default_factory=dict)
    home: tuple[str, ...] = ()

    def whole(self, code: str) -> str:
        """The solution with what its language wants around it, and without what is in the way."""
        code = re.sub(self.dropped, "", code, flags=re.MULTILINE)
        first = self.head.split(maxsplit=1)[:1]
        if first and not re.search(rf"^\s*{re.escape(first[0])}", code, re.MULTILINE):
            return self.head + code
        return code

    def files(self, solution: str, tests: str | None = None) -> dict[str, str]:
        """The files that `compile` wants, or with `tests` those that `run` wants."""
        solution = self.whole(solution)
        files = {self.file: solution, **self.extra}
        if tests is not None:
            imports = "\n".join(re.findall(self.imports, tests, re.MULTILINE))
            body = re.sub(self.imports, "", tests, flags=re.MULTILINE)
            values = {"solution": solution, "tests": body, "imports": imports, "passed": PASSED}
            for name, text in self.test.items():
                files[name] = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], text)
        return files


_ARGS = r"[^\n`]{3,120}"
_C_TEST = """#define main solution_main
{solution}
#undef main
#undef NDEBUG
{imports}
%s
int main(void) {
{tests}
puts("\\n{passed}");
return 0;
}
"""
_C_HEADERS: tuple[str, ...] = ("assert", "math", "stdbool", "stdint", "stdio", "stdlib", "string")
_CPP_HEADERS: tuple[str, ...] = (
    "algorithm",
    "cassert",
    "cmath",
    "cstdint",
    "cstdio",
    "map",
    "set",
    "sstream",
)
_CPP_HEADERS += ("stdexcept", "string", "unordered_map", "unordered_set", "vector")
_C_IMPORTS = r"^[ \t]*#[ \t]*include.*$"
# A function, so that the tests may name their own variables like the solution's, and await.
_NODE_TEST = """{solution}
;(async () => {
const assert%s = (await import("node:assert"%s)).default;
await (async () => {
{tests}
})();
console.log("\\n{passed}");
process.exit(0);
})();
"""
NODE = ("node", "--experimental-detect-module")
TSC: tuple[str, ...] = ("tsc", "--target", "es2021", "--lib", "es2021,dom", "--module", "commonjs")
TSC += ("--moduleResolution", "node", "--moduleDetection", "force", "--esModuleInterop")
TSC += ("--skipLibCheck", "--pretty", "false")
# Node's own types are a package that no toolchain brings.
_NODE_TYPES = """declare module "*";
declare var require: any, module: any, exports: any, process: any, Buffer: any, global: any;
declare var __filename: string, __dirname: string;
"""
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")
JAVAC = ("javac", *(f"-J{option}" for option in JVM), "-nowarn", "-d", "out")
RUSTC = ("rustc", "--edition", "2021", "--cap-lints", "allow")
_GO = 'export GOCACHE="$PWD/.cache" GOPATH="$PWD/.go" GO111MODULE=off CGO_ENABLED=0; exec go '
_GO_TEST = """package main
import ("errors"; "fmt"; "math"; "reflect"; "sort"; "strings"; "testing")
{imports}
var _, _, _, _ = errors.New, fmt.Sprint, math.Abs, reflect.DeepEqual
var _, _ = sort.Ints, strings.Repeat
func TestMagicoder(t *testing.T) {
{tests}
fmt.Println("\\n{passed}")
}
"""


def _includes(names: tuple[str, ...], suffix: str) -> str:
    return "\n".join(f"#include <{name}{suffix}>" for name in names)


TOOLCHAINS = {
    "python": Toolchain(
        tool="python3",
        version=("python3", "-VV"),
        file="solution.py",
        compile=(("python3", "-c", "compile(open('solution.py').read(), 'solution.py', 'exec')"),),
        test={
            "check.py": "import solution\n"
            "globals().update({k: v for k, v in vars(solution).items() if k[:2] != '__'})\n"
            "{tests}\n"
            "for _name, _test in list(globals().items()):\n"
            "    if _name.startswith('test_') and callable(_test):\n"
            "        _test()\n"
            "print('\\n{passed}')\n"
        },
        run=(("python3", "check.py"),),
        ask="assert statements, such as: assert twice(2) == 4",
        line=rf"assert {_ARGS}",
    ),
    "javascript": Toolchain(
        tool="node",
        version=("node", "--version"),
        file="solution.js",
        compile=((*NODE, "--check", "solution.js"),),
        test={"check.js": _NODE_TEST % ("", "")},
        run=((*NODE, "check.js"),),
        ask="calls of Node's assert, such as: assert.deepStrictEqual(twice(2), 4);",
        line=rf"assert\.deepStrictEqual\({_ARGS}\);",
    ),
    "typescript": Toolchain(
        tool="tsc",
        version=("tsc", "--version"),
        file="solution.ts",
        compile=((*TSC, "--noEmit", "node.d.ts", "solution.ts"),),
        test={"check.ts": _NODE_TEST % (": any", " as string")},
        run=((*TSC, "node.d.ts", "check.ts"), ("node", "check.js")),
        ask="calls of Node's assert, such as: assert.deepStrictEqual(twice(2), 4);",
        line=rf"assert\.deepStrictEqual\({_ARGS}\);",
        extra={"node.d.ts": _NODE_TYPES},
    ),
    "c": Toolchain(
        tool="gcc",
        version=("gcc", "--version"),
        file="solution.c",
        compile=(("gcc", "-std=gnu17", "-w", "-fsyntax-only", "solution.c"),),
        test={"check.c": _C_TEST % _includes(_C_HEADERS, ".h")},
        run=(("gcc", "-std=gnu17", "-w", "check.c", "-o", "check", "-lm"), ("./check",)),
        ask="assertions, such as: assert(twice(2) == 4);",
        line=rf"assert\({_ARGS}\);",
        imports=_C_IMPORTS,
    ),
    "cpp": Toolchain(
        tool="g++",
        version=("g++", "--version"),
        file="solution.cpp",
        compile=(("g++", "-std=gnu++20", "-w", "-fsyntax-only", "solution.cpp"),),
        test={"check.cpp": _C_TEST % _includes(_CPP_HEADERS, "")},
        run=(("g++", "-std=gnu++20", "-w", "check.cpp", "-o", "check"), ("./check",)),
        ask="assertions with std:: written out, such as: assert(twice(2) == 4);",
        line=rf"assert\({_ARGS}\);",
        imports=_C_IMPORTS,
    ),
    "java": Toolchain(
        tool="javac",
        version=("javac", "-version"),
        file="Solution.java",
        compile=((*JAVAC, "Solution.java"),),
        test={
            "MagicoderCheck.java": "import java.util.*;\nimport java.util.function.*;\n"
            "import java.util.stream.*;\n{imports}\nclass MagicoderCheck {\n"
            "public static void main(String[] args) throws Throwable {\n{tests}\n"
            'System.out.println("\\n{passed}");\n}\n}\n'
        },
        run=(
            (*JAVAC, "Solution.java", "MagicoderCheck.java"),
            ("java", *JVM, "-ea", "-cp", "out", "MagicoderCheck"),
        ),
        ask="assert statements, such as: assert Solution.twice(2) == 4;",
        line=rf"assert {_ARGS};",
        imports=r"^[ \t]*import [\w.*]+;",
        # Any public class may stand in Solution.java once it is not public.
        dropped=r"^[ \t]*package [\w.]+;|^public (?=.*\b(?:class|enum|interface|record)\b)",
    ),
    "rust": Toolchain(
        tool="rustc",
        version=("rustc", "--version"),
        home=("rustc", "--print", "sysroot"),
        file="solution.rs",
        compile=((*RUSTC, "--crate-type", "lib", "--emit", "metadata", "solution.rs"),),
        test={
            "check.rs": "{solution}\n#[test]\nfn magicoder_check() {\n{tests}\n"
            'println!("\\n{passed}");\n}\n'
        },
        run=(
            (*RUSTC, "--test", "check.rs", "-o", "check"),
            ("./check", "--exact", "magicoder_check", "--nocapture"),
        ),
        ask="assertions, such as: assert_eq!(twice(2), 4);",
        line=rf"assert(_eq)?!\({_ARGS}\);",
    ),
    "php": Toolchain(
        tool="php",
        version=("php", "--version"),
        file="solution.php",
        compile=(("php", "-l", "solution.php"),),
        test={"check.php": "<?php\nrequire 'solution.php';\n{tests}\necho \"\\n{passed}\\n\";\n"},
        run=(("php", "-d", "zend.assertions=1", "-d", "assert.exception=1", "check.php"),),
        ask="assertions, such as: assert(twice(2) === 4);",
        line=rf"assert\({_ARGS}\);",
        head="<?php\n",
        imports=r"<\?php|\?>",
        dropped=r"^[ \t]*namespace [\w\\]+;",
    ),
    "shell": Toolchain(
        tool="bash",
        version=("bash", "--version"),
        file="solution.sh",
        compile=(("bash", "-n", "solution.sh"),),
        test={"check.sh": ". ./solution.sh\nset -e\n{tests}\necho\necho '{passed}'\n"},
        run=(("bash", "check.sh"),),
        ask='commands that exit if a result is wrong, such as: [ "$(twice 2)" = 4 ] || exit 1',
        line=r'\[ "\$\([^\n`]{1,80}\)" = [^\n`]{1,60} \] \|\| exit 1',
    ),
    "go": Toolchain(
        tool="go",
        version=("go", "version"),
        home=("go", "env", "GOROOT"),
        file="solution.go",
        compile=(("sh", "-c", _GO + "vet -unsafeptr solution.go"),),
        test={"solution_test.go": _GO_TEST},
        run=(("sh", "-c", _GO + "test -vet=off -c -o check ."), ("./check",)),
        ask='if statements that panic, such as: if Twice(2) != 4 { panic("Twice(2)") }',
        line=r"if [^\n`]{3,100} \{ panic\(\"[^\n`\"]{1,60}\"\) \}",
        head="package main\n",
        imports=r'^[ \t]*import (?:"[\w/]+"|\([^)]*\))',
        dropped=r"^package \w+",
    ),
}
