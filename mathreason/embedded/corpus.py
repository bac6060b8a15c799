"""Text to pretrain the embedded model on: arithmetic facts and the generator's worlds told as prose.

    next(documents(seed=0))
    "Tom has 5 apples. Tom buys 3 bags with 4 apples in each bag. Tom gets 3 * 4 = 12 apples. Tom has ..."

It holds what a model needs to *know* (names, things, sums, how a story goes on) and nothing of what tuning
teaches: every sum is worked where it happens, so no story is ever told to its end and then solved, nothing is
asked, and there is no prompt, no "####" and no stop after an answer. Nothing being asked, no test question is
in it; the stories told are those of questions on the train side.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random

from mathreason.data.generator import Story, stories
from mathreason.data.story_numbers import LARGEST, TABLE
from mathreason.data.story_worlds import NAMES

# Words of everyday English problems, for the tokenizer: text from elsewhere should not fall apart.
_COMMON_WORDS = (
    "a about after again all also always an and another any are around as at average away back be because "
    "been before began between both bought box boys bring brother brought but by cake called came can car "
    "cars cents change children class clothes coffee come cost costs could country cut daughter day days "
    "did different distance does dog dogs dollars done down dozen drink drive each earn earned eat eats "
    "eight either end enough end equal every everyone family far farm father feet fewer fifth figure "
    "final find first five floor food for found four fourth fraction friend friends from full gallons "
    "gave get gets girl girls give gives go going good group grow had half has have he help her here high "
    "him his hold home hour hours house how hundred if in inches into is it its just keep kids kilograms "
    "know large last later lay least left length less let like line liters little long longer lost lot "
    "lunch made make makes many marbles meal men meters middle miles milk minute minutes money month "
    "months more morning most mother much must my need needs new next night nine no not number of off old "
    "on once one only open or order other our out over own page pages paid paint pair paper part party "
    "pay pays people per percent person picked piece pieces place plants play played points pounds price "
    "problem put quarter ran rate read red remaining rest rest right room rooms run sale same save saved "
    "saw say says school second see sell sells seven sheep shop short should side sister six size slices "
    "small so sold some son spend spends spent square start still stop store student students take takes "
    "tall team tells ten test than that the their them then there these they thing things think third "
    "thirty this those thousand three time times to today together told took top total town travel trip "
    "truck twelve twenty twice two under until up use used uses walk walks want wants was watch water way "
    "we week weekend weeks weight weighs well went were what when where which while white who whole will "
    "wins with without woman women wood work worked works worth would write year years yellow yesterday "
    "yet you young answer holds question solve step"
)
COMMON_WORDS = tuple(_COMMON_WORDS.split())
# How the first words of a prompt's parts are spelled; the prompt itself is left for tuning to teach.
_PROMPT_WORDS = "Solve, problem, step,End, line, holds, final, answer,Question,Answer"
PROMPT_WORDS = tuple(_PROMPT_WORDS.split(","))
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
ONES = tuple(_ONES.split())
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

_HEADINGS = ("Sums", "Stories", "Words", "Page", "Numbers", "Part")


def number_words(number: int) -> str:
    """English words of a number from 0 to 120: 47 is "forty seven"."""
    if number < 20:
        return ONES[number]
    if number >= 100:
        rest = number - 100
        return "one hundred" + (f" and {number_words(rest)}" if rest else "")
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


def fact(rng: Random) -> tuple[int, str, int, int]:
    """A random `(left, operator, right, result)` of whole numbers from the ranges the stories use."""
    operator = rng.choices("+-*/", (4, 4, 2, 2))[0]
    if operator in "+-":
        right = rng.randint(2, 60)
        other = rng.randint(2, LARGEST - right)
        return (other, "+", right, other + right) if operator == "+" else (other + right, "-", right, other)
    left, right = rng.randint(2, TABLE), rng.randint(2, TABLE)
    return (left, "*", right, left * right) if operator == "*" else (left * right, "/", right, left)


_SPOKEN = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}


def fact_text(rng: Random) -> str:
    """One fact in one of several notations, as a sentence."""
    left, operator, right, result = fact(rng)
    style = rng.randrange(10)
    if style == 0:
        return f"{left} {_SPOKEN[operator]} {right} is {result}."
    if style == 1:
        return f"{number_words(left)} is {left}."
    return f"{left} {operator} {right} = {result}."


def facts(rng: Random) -> str:
    """A paragraph of arithmetic: unrelated facts, or a row of a table."""
    if rng.random() < 0.8:
        return " ".join(fact_text(rng) for _ in range(rng.randint(5, 15)))
    row = rng.randint(2, TABLE)
    if rng.random() < 0.5:
        return " ".join(f"{row} * {other} = {row * other}." for other in range(2, TABLE + 1))
    return " ".join(f"{row * other} / {row} = {other}." for other in range(2, TABLE + 1))


def words(rng: Random) -> str:
    """A list of everyday words, so that none of them is a stranger to the model."""
    chosen = rng.sample(COMMON_WORDS, 20)
    return ", ".join(chosen) + "."


def heading(rng: Random) -> str:
    return f"## {rng.choice(_HEADINGS)} {rng.randint(1, 99)}"


def running(told: Story, gap: str) -> str:
    """The story with every sum worked where it happens; `gap` goes between the sentences."""
    return gap.join(part for sentence, lines in told.beats for part in (sentence, *lines) if part)


def documents(seed: int) -> Iterator[str]:
    """Endless documents of two to five paragraphs each, the same for the same seed."""
    rng = Random(f"pretraining-{seed}")
    source = stories("train", seed)
    while True:
        paragraphs = [heading(rng)] if rng.random() < 0.2 else []
        for _ in range(rng.randint(2, 5)):
            gap = rng.choice((" ", " ", "\n"))
            kind = rng.choices(("words", "facts", "story"), (1, 6, 13))[0]
            if kind == "words":
                paragraphs.append(words(rng))
            elif kind == "facts":
                paragraphs.append(facts(rng))
            else:
                paragraphs.append(running(next(source), gap))
        yield "\n".join(paragraphs)


def tokenizer_texts(seed: int, count: int = 2000) -> Iterator[str]:
    """Text to train the tokenizer on: `count` documents, and every everyday word often enough to count."""
    yield from islice(documents(seed), count)
    for word in COMMON_WORDS:
        yield f" {word}" * (count // 20)
    for word in (*PROMPT_WORDS, *NAMES):
        yield f"{word}\n" * (count // 10)
