"""What the ledger answers: the outcome of a transfer and of an account.

Outcomes are values, never exceptions. Names and numbers are TigerBeetle's
`CreateTransferStatus` and `CreateAccountStatus`, except that `created` is 0 so that an
outcome fits a byte, and that `frozen` is ours, with a number that is none of theirs. The members
stand in order of precedence: where several rules are broken the answer is the one that stands
first.

Source: package `tigerbeetle` 0.17.9, enums of the same names. What concerns imported
events is left out: the flag `imported` is answered with `reserved_flag`.

The rows of `ledger.outcomes` are held to `Outcome` at `engine init` and when a worker opens: a new
member needs a migration that adds its row.
"""

from enum import IntEnum
from typing import Final


class Outcome(IntEnum):
    """The answer to one transfer: `created`, or the first rule that it breaks."""

    created = 0
    linked_event_failed = 1
    linked_event_chain_open = 2
    timestamp_must_be_zero = 3
    reserved_flag = 4
    id_must_not_be_zero = 5
    id_must_not_be_int_max = 6
    exists_with_different_flags = 36
    exists_with_different_pending_id = 40
    exists_with_different_timeout = 44
    exists_with_different_debit_account_id = 37
    exists_with_different_credit_account_id = 38
    exists_with_different_amount = 39
    exists_with_different_user_data_128 = 41
    exists_with_different_user_data_64 = 42
    exists_with_different_user_data_32 = 43
    exists_with_different_ledger = 67
    exists_with_different_code = 45
    exists = 46
    id_already_failed = 68
    frozen = 128
    flags_are_mutually_exclusive = 7
    debit_account_id_must_not_be_zero = 8
    debit_account_id_must_not_be_int_max = 9
    credit_account_id_must_not_be_zero = 10
    credit_account_id_must_not_be_int_max = 11
    accounts_must_be_different = 12
    pending_id_must_be_zero = 13
    pending_id_must_not_be_zero = 14
    pending_id_must_not_be_int_max = 15
    pending_id_must_be_different = 16
    timeout_reserved_for_pending_transfer = 17
    closing_transfer_must_be_pending = 64
    ledger_must_not_be_zero = 19
    code_must_not_be_zero = 20
    debit_account_not_found = 21
    credit_account_not_found = 22
    accounts_must_have_the_same_ledger = 23
    transfer_must_have_the_same_ledger_as_accounts = 24
    pending_transfer_not_found = 25
    pending_transfer_not_pending = 26
    pending_transfer_has_different_debit_account_id = 27
    pending_transfer_has_different_credit_account_id = 28
    pending_transfer_has_different_ledger = 29
    pending_transfer_has_different_code = 30
    exceeds_pending_transfer_amount = 31
    pending_transfer_has_different_amount = 32
    pending_transfer_already_posted = 33
    pending_transfer_already_voided = 34
    pending_transfer_expired = 35
    debit_account_already_closed = 65
    credit_account_already_closed = 66
    overflows_debits_pending = 47
    overflows_credits_pending = 48
    overflows_debits_posted = 49
    overflows_credits_posted = 50
    overflows_debits = 51
    overflows_credits = 52
    overflows_timeout = 53
    exceeds_credits = 54
    exceeds_debits = 55


SPENDS_ID: Final = frozenset(
    {
        Outcome.frozen,
        Outcome.debit_account_not_found,
        Outcome.credit_account_not_found,
        Outcome.pending_transfer_not_found,
        Outcome.exceeds_credits,
        Outcome.exceeds_debits,
        Outcome.debit_account_already_closed,
        Outcome.credit_account_already_closed,
    },
)
"""Transient refusals: had the world been another, the transfer would have been created. Its
id is spent for ever all the same, so that a retry can never succeed behind the back of a
producer who was told that it failed. Any other refusal leaves the id free."""


class AccountOutcome(IntEnum):
    """The answer to the creation of one account."""

    created = 0
    id_must_not_be_zero = 6
    id_must_not_be_int_max = 7
    exists_with_different_flags = 15
    exists_with_different_user_data_128 = 16
    exists_with_different_user_data_64 = 17
    exists_with_different_user_data_32 = 18
    exists_with_different_ledger = 19
    exists_with_different_code = 20
    exists = 21
    flags_are_mutually_exclusive = 8
    ledger_must_not_be_zero = 13
    code_must_not_be_zero = 14
