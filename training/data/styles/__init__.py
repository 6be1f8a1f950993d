"""Ways to make samples. A style is one module with a function `stages`, named here."""

from collections.abc import Callable, Mapping
from pathlib import Path

from magicoder.training.data.runner import Stage
from magicoder.training.data.styles import (
    code_to_problem,
    comment_function,
    oss_instruct,
    self_instruct,
)

STYLES: Mapping[str, Callable[[Path, Stage], dict[str, Stage]]] = {
    "oss-instruct": oss_instruct.stages,
    "code-to-problem": code_to_problem.stages,
    "self-instruct": self_instruct.stages,
    "comment-function": comment_function.stages,
}
"""By name: what makes a style's stages from the file to read and the stage that asks the teacher.

The last stage yields samples; a style that asks calls its stage of the answers `answers`.
"""
