"""What needs all samples beside each other: categories, diversity, nearness to benchmarks."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from magicoder.errors import require
from magicoder.training.data.embedding import embed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from magicoder.training.data.embedding import Vectors

ROWS = 1024  # compared at once with all tasks of a benchmark

CATEGORIES = {
    "Algorithms and data structures": "Implement an algorithm or a data structure: sorting, "
    "searching, graphs, trees, linked lists, recursion, dynamic programming.",
    "Mathematics": "Compute something mathematical: number theory, geometry, probability, linear "
    "algebra, primes, matrices, numerical methods.",
    "Database and SQL": "Query or change a database: SQL statements, tables, joins, schemas, "
    "transactions, an object-relational mapper.",
    "System design and architecture": "Design the parts of a system and how they work together: "
    "services, interfaces, message queues, plugins, configuration, concurrency.",
    "Security and cryptography": "Protect data or access: encryption, hashing of passwords, "
    "signatures, authentication, permissions, safe handling of input.",
    "Performance optimisation": "Make a program faster or leaner: caching, less memory, better "
    "complexity, parallel execution, profiling.",
    "Web": "Build for the web: HTTP requests and routes, a REST service, HTML, forms, cookies, "
    "a browser script.",
    "Domain-specific": "Solve a task of one field: finance, games, bioinformatics, robots, "
    "embedded devices, geography, networks, audio.",
    "User interface and application design": "Build what a user sees and touches: windows, "
    "buttons, menus, layouts, events, a mobile or desktop application.",
    "Data science and machine learning": "Analyse data or train a model: data frames, statistics, "
    "plots, feature preparation, neural networks, evaluation of predictions.",
}
"""The paper's ten categories (its section on the data), each described in our words."""


def categories(problems: "Vectors", model: str) -> Counter[str]:
    """How many problems are nearest to each category's description; all ten are named."""
    near = (problems @ embed(list(CATEGORIES.values()), model).T).argmax(axis=1)
    names = list(CATEGORIES)
    found = Counter(dict.fromkeys(names, 0))
    found.update(names[place] for place in near)
    return found


def vendi(vectors: "Vectors") -> float:
    """The Vendi score: exp of the entropy of the eigenvalues of K / n, K = V Vᵀ of unit rows.

    From 1, all the same, to n, all orthogonal; never more than the dimensions (Friedman and Dieng,
    arXiv:2210.02410). V Vᵀ and Vᵀ V share their eigenvalues but for zeros: the smaller is taken.
    """
    import numpy as np

    exact = vectors.astype(np.float64)
    count, width = exact.shape
    kernel = exact @ exact.T if count <= width else exact.T @ exact
    values = np.linalg.eigvalsh(kernel / count)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def nearest(samples: "Vectors", tasks: "Vectors") -> "NDArray[np.float32]":
    """Each sample's highest cosine with any task; `ROWS` samples at a time."""
    import numpy as np

    blocks = (samples[start : start + ROWS] for start in range(0, len(samples), ROWS))
    found: NDArray[np.float32] = np.concatenate([(block @ tasks.T).max(axis=1) for block in blocks])
    return found


def nearest_words(samples: Sequence[str], tasks: Sequence[str]) -> "NDArray[np.float64]":
    """The same by TF-IDF of words, fitted on samples and tasks together."""
    import numpy as np

    text = require("sklearn.feature_extraction.text", "data")
    rows = text.TfidfVectorizer().fit_transform([*samples, *tasks])
    ours, theirs = rows[: len(samples)], rows[len(samples) :].T
    blocks = (ours[start : start + ROWS] for start in range(0, len(samples), ROWS))
    found: NDArray[np.float64] = np.concatenate(
        [(block @ theirs).max(axis=1).toarray()[:, 0] for block in blocks]
    )
    return found
