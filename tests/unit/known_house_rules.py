"""What breaks a house rule today, by rule; see `test_house_rules`. It only ever shrinks.

Reasons: `flush_small` gets its arguments from `small_arguments`, which no tree shows; that they fit
is seen by every test that flushes.
"""

from typing import Final

KNOWN: Final[dict[str, frozenset[str]]] = {
    "long_modules": frozenset(
        {
            "engine/book/book.py",
            "engine/deciding/decider.py",
            "engine/ledger/rules.py",
            "engine/streams/streams.py",
            "engine/worker/pipeline.py",
            "tests/integration/test_commands.py",
            "tests/simulation/backend.py",
            "tests/simulation/judge.py",
            "tests/simulation/test_scenarios_stripes.py",
            "tests/worlds.py",
        }
    ),
    "large_classes": frozenset(
        {
            "engine/book/book.py: Book",
            "engine/deciding/decider.py: Decider",
            "engine/store/worker_store.py: WorkerStore",
            "engine/worker/pipeline.py: Pipeline",
        }
    ),
    "nameless_things": frozenset(
        {
            "engine/book/book.py: Book.lately",
            "engine/book/book.py: Book.post",
            "engine/book/book.py: Book.resolved_lately",
            "engine/book/book.py: Book.take_back",
            "engine/book/book.py: Book.take_over",
            "engine/book/columns.py: kept_rows",
            "engine/book/columns.py: spent_rows",
            "engine/client/inputs.py: _converted",
            "engine/client/inputs.py: parse_accounts",
            "engine/client/inputs.py: parse_ids",
            "engine/client/inputs.py: parse_transfers",
            "engine/client/resends.py: resend",
            "engine/commands/demo_load.py: Population.accounts",
            "engine/commands/demo_story.py: Story.tell",
            "engine/commands/main.py: _first",
            "engine/commands/naming.py: find_accounts",
            "engine/commands/screen.py: print_json_lines",
            "engine/commands/serving.py: running_servers",
            "engine/commands/workers.py: run_until_signal",
            "engine/deciding/batch.py: Forms._group",
            "engine/deciding/decider.py: Decider._ask_ids",
            "engine/deciding/decider.py: Decider._find_hold_accounts",
            "engine/deciding/decider.py: Decider._holds",
            "engine/deciding/decider.py: Decider._make_page",
            "engine/deciding/decider.py: Decider._short",
            "engine/deciding/decider.py: Decider._sort",
            "engine/deciding/decider.py: Decider.supply",
            "engine/deciding/results.py: _resolutions",
            "engine/deciding/results.py: lay_out",
            "engine/store/assumptions.py: check_assumptions",
            "engine/store/copy.py: _copies_of_resolutions",
            "engine/store/copy.py: _copy_of_refused",
            "engine/store/copy.py: copies_of_spent",
            "engine/store/ownership.py: Ownership.release",
            "engine/store/rows.py: Flush.has_assumptions",
            "engine/store/small_flush.py: _created",
            "engine/store/small_flush.py: is_small",
            "engine/store/small_flush.py: small_arguments",
            "engine/store/worker_store.py: WorkerStore._write",
            "engine/streams/cluster_connection.py: FastCluster.silent_seconds",
            "engine/verify/streams.py: _undecided",
            "engine/worker/chain.py: Chain.begin",
            "engine/worker/locked_flush.py: _check_unmoved",
            "engine/worker/locked_flush.py: decide_locked",
            "engine/worker/open_flush.py: OpenFlush.arrivals",
            "engine/worker/pipeline.py: Pipeline._committed",
            "engine/worker/pipeline.py: Pipeline._rest_on",
            "engine/worker/pipeline.py: Pipeline._seal",
            "engine/worker/pipeline.py: Pipeline._take",
            "engine/worker/pipeline.py: Pipeline._watch_holds",
            "engine/worker/pipeline.py: Pipeline.redo",
            "engine/worker/replies.py: Replier._send_replies",
            "engine/worker/session.py: Session._decide_below",
            "shards/applying.py: _applied",
            "shards/applying.py: _check_targets",
            "shards/applying.py: _not_behind",
            "shards/applying.py: check_topology",
            "shards/commands/auto.py: _until_signal",
            "shards/commands/plan.py: show_plan",
            "shards/placement.py: _ask_richest",
            "shards/placement.py: _is_free",
            "shards/placement.py: _let_go",
            "shards/placement.py: _take_listed",
            "shards/placement.py: _take_share",
            "shards/placement.py: next_step",
            "shards/planning.py: make_plan",
            "shards/planning.py: name_worker",
            "shards/planning.py: weigh",
        }
    ),
    "modules_in_ing": frozenset(
        {
            "engine/client/outgoing.py",
        }
    ),
    "rooms_without_a_readme": frozenset(
        {
            "engine/book",
            "engine/deciding",
            "engine/ledger",
            "engine/store",
            "engine/streams",
            "engine/worker",
            "shards/commands",
        }
    ),
    "long_readmes": frozenset(
        {
            "benchmarks/README.md",
            "engine/README.md",
            "shards/README.md",
        }
    ),
    "modules_unnamed": frozenset(
        {
            "engine/client/background.py",
            "engine/client/batcher.py",
            "engine/client/delivery.py",
            "engine/client/outgoing.py",
            "engine/client/reconnecting.py",
            "engine/client/resends.py",
            "engine/commands/naming.py",
            "engine/commands/screen.py",
            "shards/seats.py",
        }
    ),
    "arguments_untold": frozenset(
        {
            "engine/store/worker_store.py: WorkerStore._flush_small: flush_small",
        }
    ),
    "paths_stale": frozenset(
        {
            "engine/verify/checks/06_ids.sql: engine/outcomes.py",
        }
    ),
}

KNOWN_MAX: Final = 104
"""How many there may be at most; lower it with each that is mended."""
