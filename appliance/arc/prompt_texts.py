"""The fixed texts of the prompt styles.

They are wire formats: models were trained on them, so not one character may change, trailing blanks
included. Sources: `prompting.py` of arc24 (output-from-examples, input-from-inputs,
output-from-outputs, code-from-examples) and of arc25 (its own code-from-examples-v3, and the prompt
of the BARC induction models).
"""

from __future__ import annotations

SYSTEM_SHORT = "You are a helpful assistant."
SYSTEM_LONG = (
    "You are a helpful AI assistant. Your job is to solve tasks from the Abstraction and "
    "Reasoning Challenge (ARC). \n"
    "The user will present you with sample input and output grids for each task. \n"
    "Your job will be to understand the transformation between the input and the output and apply "
    "it to the last input "
    "grid given by the user. \n"
    "The puzzle-like inputs and outputs present a grid where each square can be one of ten "
    "colors. A grid can be any "
    "height or width between 1x1 and 30x30.\n"
    "The background of the grid is typically colored with 0.\n"
    "The tasks from ARC are based on the following priors:\n"
    "\n"
    "- Objectness: Objects persist and cannot appear or disappear without reason. Objects can "
    "interact or not "
    "depending on the circumstances.\n"
    '- Goal-directed: Objects can be animate or inanimate. Some objects are "agents" - they have '
    "intentions and they "
    "pursue goals.\n"
    "- Numbers & counting: Objects can be counted or sorted by their shape, appearance, or "
    "movement using basic "
    "mathematics like addition, subtraction, and comparison.\n"
    "- Basic geometry & topology: Objects can be shapes like rectangles, triangles, and circles "
    "which can be mirrored, "
    "rotated, translated, deformed, combined, repeated, etc. Differences in distances can be "
    "detected.\n"
    "\n"
    "The transformations between input and output should be based on these priors.\n"
)
SYSTEM_BARC = (
    "You are a world-class puzzle solver with exceptional pattern recognition skills and "
    "expertise in Python "
    "programming. Your task is to analyze puzzles and provide Python solutions."
)

_PRIORS = (
    "The transformations are always based on the following priors: objectness, goal-directed, "
    "numbers & counting, and "
    "basic geometry & topology.\n"
)
_SIMPLE_TASK = (
    "Let's see if you can solve this simple Abstraction and Reasoning Challenge (ARC) task.\n"
    "Below there are some input-output grid examples that define the task.\n"
)
OPENING_OUTPUT_V0 = (
    "Let's see if you can solve this simple ARC task. "
    "These are some input-output grid examples that define the task.\n"
)
OPENING_OUTPUT_V1 = (
    _SIMPLE_TASK
    + "Your job is to understand the transformation between the input and the output and apply it "
    "to the "
    "test input grid.\n" + _PRIORS
)
OPENING_NEW_GRID = (
    "Your task is to create a new grid that follows the same distribution as the input grids from "
    "the Abstraction and "
    "Reasoning Challenge (ARC).\n"
    "Below there are some grid examples, please create a new and different grid that follows the "
    "same distribution.\n"
)
OPENING_CODE_V0 = (
    _SIMPLE_TASK
    + "Your job is to understand the transformation between the input and the output and write a "
    "python "
    "function that implements the transformation.\n"
    "The function should be called `task` and receives a numpy array called `grid` as input.\n"
    + _PRIORS
)


def opening_code(argument: str) -> str:
    """The opening of code-from-examples from v1 on.

    v1 and v2 call the argument `grid`, v3 calls it `img`.
    """
    return (
        "You are tasked with solving a transformation problem from the Abstraction and Reasoning "
        "Challenge (ARC).\n"
        f"The goal is to generate a Python function called `task` that receives a 2D numpy array, "
        f"`{argument}`, and "
        "transforms it to match the desired output.\n"
        "\n"
        "Below are several input-output examples that illustrate the transformation. Your "
        "function should generalize "
        "the pattern from these examples to solve any input following the same logic.\n"
        "\n"
        "## Key Priors:\n"
        "\n"
        "- **Objectness**: Consider the grid as containing objects (groups of connected cells) "
        "rather than just "
        "individual pixels.\n"
        "- **Goal-Directed**: The transformation should achieve a specific goal, such as creating "
        "symmetry or changing "
        "the color of specific objects.\n"
        "- **Numbers & Counting**: Keep track of the number of objects, sizes, and their relative "
        "positions.\n"
        "- **Geometry & Topology**: Use spatial relationships such as adjacency, enclosure, or "
        "symmetry.\n"
        "\n"
        "Carefully analyze the examples and find the underlying transformation logic.\n"
        "\n"
        "## Examples\n"
    )


OPENING_BARC = (
    "Given input-output grid pairs as reference examples, carefully observe the patterns to "
    "predict the output grid "
    "for new test input. Each pair follows the same transformation rule. Grids are 2D arrays "
    "represented as strings, with "
    "cells (colors) separated by spaces and rows by newlines.\n"
    "Here are the input and output grids for the reference examples:\n"
)

# Per demonstration, with {i} counted from 1.
PAIR_H2 = "\n## Example {i}\n\n### Input\n\n{input}\n\n### Output\n\n{output}\n"
PAIR_H3 = "\n### Example {i}\n\n#### Input\n\n{input}\n\n#### Output\n\n{output}\n"
PAIR_BARC = "Example {i}\nInput:\n{input}\n\nOutput:\n{output}\n\n"
GRID_OF_INPUT = "\n## Grid example {i}\n\n{input}\n"
GRID_OF_OUTPUT = "\n## Grid example {i}\n\n{output}\n"

# After the demonstrations.
TEST_H2 = "\n## Test case\n\n### Input\n\n{test}"
TEST_H3 = "\n### Test case\n\n#### Input\n\n{test}"
ASK_FOR_CODE = "\n## Code\n\nImplement the transformation in Python."
TEST_BARC = (
    "\nHere is the input grid for the test example:\n{test}\n\n"
    "Write a Python function `transform` that can convert any given input grid to its "
    "corresponding output grid based "
    "on the pattern observed in the reference examples."
)

# What the answer begins with.
ANSWER_OUTPUT = "### Output\n\n"
ANSWER_NEW_GRID = "## New grid\n\n"
ANSWER_CODE = "## Code\n\nThis is the Python function that implements the transformation logic:\n\n"
ANSWER_BARC = (
    "Let's solve this puzzle using Python code with the common library functions. We'll first "
    "reason about the problem "
    "and then write the code to solve it. The `transform` function will take the input grid and "
    "return the output "
    "grid. Here is the Python code with the comments describing how to solve the problem:\n"
)
