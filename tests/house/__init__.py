"""What a reader may count on in every room, as rules that name who breaks them."""

from collections.abc import Mapping

Found = Mapping[str, str]
"""What breaks a rule, by where, with what is wrong and what to do."""
