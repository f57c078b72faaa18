"""What makes a long password easy to guess all the same (NIST SP 800-63B: repetitions, sequences,
the service's own name)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

_SERVICE = "skinspire"
_FEWEST_CHARACTERS = 5
_FEWEST_BESIDE = 8


class GuessablePasswordValidator:
    """Refuses what guessing programs make of few pieces. Demands no kinds of characters."""

    def __init__(self) -> None:
        self._common = CommonPasswordValidator().passwords

    def validate(self, password: str, user: Any = None) -> None:
        text = password.casefold()
        if self._is_repetition(text) or _is_sequence(text) or self._is_common_with_digits(text):
            raise ValidationError(
                "This password is made of what is guessed first: repetitions, sequences, or a "
                "common password with digits.",
                code="password_guessable",
            )

    def _is_repetition(self, text: str) -> bool:
        few = len(set(text)) < _FEWEST_CHARACTERS
        repeated = re.fullmatch(r"(.{1,11}?)\1+", text, re.DOTALL)
        return few or repeated is not None

    def _is_common_with_digits(self, text: str) -> bool:
        rest = text.replace(_SERVICE, "")
        if rest != text and len(rest) < _FEWEST_BESIDE:
            return True
        return text.strip("0123456789!.?*-_# ") in self._common

    def get_help_text(self) -> str:
        return "Several words that have nothing to do with each other do well."


def _is_sequence(text: str) -> bool:
    """Whether most characters follow on the one before, up or down."""
    steps = [abs(ord(b) - ord(a)) for a, b in pairwise(text)]
    return sum(step <= 1 for step in steps) * 3 > len(steps) * 2
