"""What the generated stories are made of: people, things, and the families of events in four small worlds.

Family(
    plus,                                            # draws x, y and z = x + y
    told=("{a} buys {y} more {o}.",),                # one of these tells it
    worked=("{a} has {x} + {y} = {z} {o}.",),        # and these lines work it out
)
"""

from __future__ import annotations

from dataclasses import dataclass

from mathreason.data.story_numbers import (
    Draw,
    anything,
    divide,
    double,
    goal,
    halve,
    minus,
    minus_product,
    plus,
    plus_product,
    product,
    times,
    unchanged,
)

_NAMES = (
    "Adam Alex Alice Amy Anna Ben Beth Bob Carl Carla Chris Clara Dan David Diana Ed Ella Emma Eric Eva "
    "Frank Fred George Grace Hannah Henry Ida Jack James Jane Jim John Julia Kate Ken Laura Leo Lily Lisa "
    "Liz Lucy Maria Mark Mary Max Mia Mike Nina Noah Olga Oscar Paul Peter Rosa Ruth Sam Sara Sofia Tina "
    "Tom Vera Will"
)
_THINGS = (
    "apple badge ball balloon banana bead bean biscuit block book bottle box brush button cake candle "
    "candy card carrot chair cherry clip coin cookie crayon cup doll egg fish flower game grape hat key "
    "kite leaf lemon letter marble melon muffin nut onion orange pancake peach pear pen pencil photo pie "
    "plate plum poster potato ribbon ring rock rose shell shirt sock spoon stamp sticker stone ticket "
    "tomato toy tree"
)
_CONTAINERS = "bag basket bowl bucket carton case crate drawer jar pack shelf tray"
_PLACES = (
    "at the market; at the beach; at school; at the store; in the park; in the garden; in the kitchen; on "
    "the farm; in the attic; at the fair"
)
NAMES = tuple(_NAMES.split())
THINGS = tuple(_THINGS.split())
CONTAINERS = tuple(_CONTAINERS.split())
PLACES = tuple(_PLACES.split("; "))
_IRREGULAR = {
    "leaf": "leaves",
    "shelf": "shelves",
    "fish": "fish",
    "potato": "potatoes",
    "tomato": "tomatoes",
}


def plural(noun: str) -> str:
    """The plural of one of this module's nouns."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("x", "ch", "sh", "s")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith(("dy", "ry")) else noun + "s"


def article(noun: str) -> str:
    """The indefinite article that goes before one of this module's nouns."""
    return "an" if noun[0] in "aeiou" else "a"


@dataclass(frozen=True)
class Family:
    """One kind of event: how it is told, how it is worked out, how its numbers are drawn.

    Fields of the wordings: a b d e (four names), o one (the thing, plural and singular), cs c (a container),
    place, and the drawn numbers. `ask` holds the questions of a closing.
    """

    draw: Draw
    told: tuple[str, ...]
    worked: tuple[str, ...]
    ask: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Families whose amounts mean the same and may follow each other."""

    openings: tuple[Family, ...]
    events: tuple[Family, ...]
    closings: tuple[Family, ...]


_HAS = ("{a} has {x} + {y} = {z} {o}.",)
_LEFT = ("{a} has {x} - {y} = {z} {o} left.",)

POSSESSIONS = World(
    openings=(
        Family(
            anything,
            (
                "{a} has {z} {o}.",
                "{a} starts with {z} {o}.",
                "There are {z} {o} in the {c} of {a}.",
                "{a} finds {z} {o} {place}.",
            ),
            (),
        ),
        Family(
            product,
            (
                "{a} has {n} {cs} with {m} {o} in each {c}.",
                "{a} fills {n} {cs} and puts {m} {o} in each {c}.",
                "There are {m} {o} in every {c} and {a} has {n} {cs}.",
            ),
            ("{a} has {n} * {m} = {z} {o}.",),
        ),
        Family(
            product,
            (
                "{a} gets {m} {o} each day for {n} days.",
                "For {n} days {a} collects {m} {o} per day {place}.",
                "{a} makes {m} {o} every hour and works for {n} hours.",
            ),
            ("{a} gets {n} * {m} = {z} {o}.",),
        ),
        Family(
            plus,
            (
                "{b} has {x} {o}. {a} has {y} more {o} than {b}.",
                "{a} has {y} {o} more than {b}, who has {x} {o}.",
            ),
            _HAS,
        ),
        Family(
            minus,
            (
                "{b} has {x} {o}. {a} has {y} fewer {o} than {b}.",
                "{a} has {y} {o} fewer than {b}, who has {x} {o}.",
            ),
            ("{a} has {x} - {y} = {z} {o}.",),
        ),
        Family(
            double,
            (
                "{b} has {x} {o}. {a} has twice as many {o} as {b}.",
                "{a} has twice as many {o} as {b}, who has {x} {o}.",
            ),
            ("{a} has {x} * {k} = {z} {o}.",),
        ),
        Family(
            times,
            (
                "{b} has {x} {o}. {a} has {k} times as many {o} as {b}.",
                "{a} has {k} times as many {o} as {b}, who has {x} {o}.",
            ),
            ("{a} has {x} * {k} = {z} {o}.",),
        ),
        Family(
            halve,
            (
                "{b} has {x} {o}. {a} has half as many {o} as {b}.",
                "{a} has half as many {o} as {b}, who has {x} {o}.",
            ),
            ("{a} has {x} / {k} = {z} {o}.",),
        ),
        Family(
            plus,
            (
                "{a} has {x} red {o} and {y} blue {o}.",
                "{a} has {x} big {o} and {y} small {o}.",
                "{a} has {x} old {o} and {y} new {o} {place}.",
            ),
            _HAS,
        ),
    ),
    events=(
        Family(
            plus,
            (
                "{a} buys {y} more {o}.",
                "{d} gives {y} more {o} to {a}.",
                "{a} finds {y} more {o} {place}.",
                "Then {a} gets {y} other {o} from {d}.",
            ),
            _HAS,
        ),
        Family(
            minus,
            (
                "{a} gives {y} {o} to {d}.",
                "{a} loses {y} {o} {place}.",
                "{a} sells {y} {o} to {d}.",
                "Then {d} takes {y} of the {o}.",
            ),
            _LEFT,
        ),
        Family(
            plus_product,
            ("{a} buys {n} {cs} with {m} {o} in each {c}.", "{d} brings {a} {n} {cs} of {m} {o} each."),
            ("{a} gets {n} * {m} = {y} {o}.", *_HAS),
        ),
        Family(
            minus_product,
            ("{a} gives {m} {o} to each of {n} friends.", "Each of {n} children takes {m} of the {o}."),
            ("{a} gives {n} * {m} = {y} {o}.", *_LEFT),
        ),
        Family(
            halve,
            ("{a} gives half of the {o} to {d}.", "Half of the {o} are lost {place}."),
            ("{a} has {x} / {k} = {z} {o} left.",),
        ),
    ),
    closings=(
        Family(
            unchanged,
            ("",),
            (),
            ("How many {o} does {a} have now?", "How many {o} does {a} have in the end?"),
        ),
        Family(
            plus,
            ("{e} has {y} {o}.", "Meanwhile {e} gets {y} {o} {place}."),
            ("{a} and {e} have {x} + {y} = {z} {o}.",),
            ("How many {o} do {a} and {e} have together?", "How many {o} do they have in all?"),
        ),
        Family(
            minus,
            ("{e} has {y} {o}.",),
            ("{a} has {x} - {y} = {z} more {o}.",),
            ("How many more {o} does {a} have than {e}?",),
        ),
        Family(
            divide,
            ("{a} shares the {o} equally among {k} friends.", "{k} children share the {o} of {a} equally."),
            ("Each gets {x} / {k} = {z} {o}.",),
            ("How many does each get?", "How many does each one get?"),
        ),
        Family(
            divide,
            ("{a} puts {k} {o} in each {c}.", "{a} packs all the {o} into {cs} of {k}."),
            ("{a} needs {x} / {k} = {z} {cs}.",),
            ("How many {cs} does {a} need?",),
        ),
        Family(
            goal,
            ("{a} wants to have {y} {o}.", "{a} needs {y} {o} for a party."),
            ("{a} needs {y} - {x} = {z} more {o}.",),
            ("How many more {o} does {a} need?",),
        ),
        Family(
            times,
            ("{a} sells every {one} for {k} dollars.", "Each {one} is worth {k} dollars."),
            ("The {o} bring {x} * {k} = {z} dollars.",),
            ("How many dollars does {a} get for the {o}?", "How many dollars are the {o} worth?"),
        ),
    ),
)

_PAYS = ("{a} pays {x} + {y} = {z} dollars.",)
SHOPPING = World(
    openings=(
        Family(
            product,
            (
                "{a} buys {n} {o} for {m} dollars each.",
                "One {one} costs {m} dollars and {a} buys {n} {o}.",
                "{a} pays {m} dollars for each of {n} {o} {place}.",
            ),
            ("{a} pays {n} * {m} = {z} dollars.",),
        ),
        Family(
            plus,
            (
                "{a} buys {an} {one} for {x} dollars and a {c} for {y} dollars.",
                "One {one} costs {x} dollars and a {c} costs {y} dollars. {a} buys both.",
            ),
            _PAYS,
        ),
    ),
    events=(
        Family(
            plus,
            ("{a} also buys a game for {y} dollars.", "{a} pays {y} dollars more for a drink {place}."),
            _PAYS,
        ),
        Family(
            minus,
            ("{d} has a coupon that takes {y} dollars off.", "The price drops by {y} dollars."),
            ("{a} pays {x} - {y} = {z} dollars.",),
        ),
    ),
    closings=(
        Family(unchanged, ("",), (), ask=("How many dollars does {a} pay?", "What does {a} pay in dollars?")),
        Family(
            goal,
            ("{a} gives the clerk {y} dollars.", "{a} had {y} dollars before."),
            ("{a} has {y} - {x} = {z} dollars left.",),
            ("How many dollars does {a} have left?",),
        ),
        Family(
            divide,
            ("{k} friends of {a} share the cost.", "{a} splits the cost among {k} people."),
            ("Each pays {x} / {k} = {z} dollars.",),
            ("How much does each pay?",),
        ),
    ),
)
SAVING = World(
    openings=(
        Family(anything, ("{a} has {z} dollars.", "{a} saved {z} dollars for {an} {one}."), ()),
        Family(
            product,
            (
                "{a} saves {m} dollars each week for {n} weeks.",
                "{a} earns {m} dollars per hour and works {n} hours {place}.",
            ),
            ("{a} has {n} * {m} = {z} dollars.",),
        ),
        Family(
            minus,
            ("{b} has {x} dollars. {a} has {y} dollars less than {b}.",),
            ("{a} has {x} - {y} = {z} dollars.",),
        ),
    ),
    events=(
        Family(
            plus,
            ("{d} gives {a} {y} dollars.", "{a} earns {y} dollars more {place}."),
            ("{a} has {x} + {y} = {z} dollars.",),
        ),
        Family(
            minus,
            ("{a} spends {y} dollars on {an} {one}.", "{a} pays {d} {y} dollars."),
            ("{a} has {x} - {y} = {z} dollars left.",),
        ),
        Family(
            minus_product,
            ("{a} buys {n} {o} for {m} dollars each.", "{a} buys {n} {o} that cost {m} dollars each."),
            ("{a} pays {n} * {m} = {y} dollars.", "{a} has {x} - {y} = {z} dollars left."),
        ),
    ),
    closings=(
        Family(
            unchanged,
            ("",),
            (),
            ("How many dollars does {a} have now?", "How much money does {a} have in the end?"),
        ),
        Family(
            goal,
            ("A {c} costs {y} dollars.", "{a} wants a bike for {y} dollars."),
            ("{a} needs {y} - {x} = {z} more dollars.",),
            ("How many more dollars does {a} need?",),
        ),
        Family(
            divide,
            ("One {one} costs {k} dollars.",),
            ("{a} can buy {x} / {k} = {z} {o}.",),
            ("How many {o} can {a} buy?",),
        ),
    ),
)
AGES = World(
    openings=(
        Family(
            plus,
            ("{b} is {x} years old. {a} is {y} years older than {b}.",),
            ("{a} is {x} + {y} = {z} years old.",),
        ),
        Family(
            minus,
            ("{b} is {x} years old. {a} is {y} years younger than {b}.",),
            ("{a} is {x} - {y} = {z} years old.",),
        ),
        Family(
            double,
            ("{b} is {x} years old. {a} is twice as old as {b}.",),
            ("{a} is {x} * {k} = {z} years old.",),
        ),
    ),
    events=(),
    closings=(
        Family(unchanged, ("",), (), ask=("How old is {a}?",)),
        Family(
            plus,
            ("{y} years go by.", "{a} moves away and comes back after {y} years."),
            ("{a} is then {x} + {y} = {z} years old.",),
            ("How old is {a} then?",),
        ),
    ),
)
WORLDS = (POSSESSIONS, SHOPPING, SAVING, AGES)
WORLD_WEIGHTS = (12, 4, 4, 1)  # how often each is told
