"""Safeguards of the protocol, each taken out by a small change; some seed must notice each.

Where a safeguard is in SQL, what is changed is the function that stands for the statement, or
the key of its table. Numbers in brackets are the rules of a flush.
"""

HERE = "../tests/simulation/"

Safeguard = tuple[str, str, str]
"""The file below `engine`, what stands there, and what is put in its place."""

SAFEGUARDS: dict[str, Safeguard] = {
    "the expected number in the own chain, flushing (1)": (
        f"{HERE}statements.py",
        "_flush_row(run, worker, sequence, number, kind, time, *counts[:3])",
        "_flush_row(run, worker, 1 + _newest_sequence(run, worker), number, kind, time, *counts[:3])",
    ),
    "the expected number in a small flush (1)": (
        f"{HERE}statements.py",
        '_flush_row(run, worker, sequence, number, "flush", time, *counts)',
        '_flush_row(run, worker, 1 + _newest_sequence(run, worker), number, "flush", time, *counts)',
    ),
    "the number read in the snapshot of owners and positions (1)": (
        "store/worker_store.py",
        'rows = await self._connections.read("ownership", self.worker, locked=True)\n',
        'rows = await self._connections.read("ownership", self.worker, locked=True)\n'
        '        later = await self._connections.read("ownership", self.worker, locked=True)\n'
        '        rows = [dict(row, sequence=later[0]["sequence"]) for row in rows]\n',
    ),
    "shards and positions looked at again under the lock of the own row": (
        "store/ownership.py",
        "if {s: o.position for s, o in found.items()} != {s: o.position for s, o in owned.items()}:",
        "if False:",
    ),
    "the book thrown away where others lent the chain before the lock": (
        "worker/claims.py",
        "        if changed.written >= self._chain.sequence:\n",
        "        if False:\n",
    ),
    "a row in the chain of who loses a shard": (
        "store/ownership.py",
        '        lent = await connections.write("append_lent_flush", [other], kind, time, named)\n',
        "        lent = fenced\n",
    ),
    "a row in nobody's chain": (
        "store/ownership.py",
        '        lent = await connections.write("append_lent_flush", [other], kind, time, named)\n',
        "        lent = fenced\n        if other != NOBODY:\n"
        '            lent = await connections.write("append_lent_flush", [other], kind, time, named)\n',
    ),
    "nobody's row is locked when a free shard is claimed": (
        "store/ownership.py",
        "sorted([connections.worker, owner])",
        "sorted({connections.worker, owner} - {NOBODY})",
    ),
    "rows in the chains of lenders": (
        "store/flush_writer.py",
        'lent = sorted(lenders), "lent"',
        'lent = [], "lent"',
    ),
    "one index for all spent ids (2)": (
        f"{HERE}tables.py",
        '{"spent_pkey": lambda r: r["id"]}',
        '{"spent_pkey": lambda r: (r["id"], r["shard"])}',
    ),
    "the stripe in the key (3)": (
        f"{HERE}tables.py",
        '(r["stripe"], r["version"] - r["run"])',
        '(r["stripe"] >> 10, r["version"] - r["run"])',
    ),
    "what is open is thrown away (4)": (
        "worker/flush_builder.py",
        "        self.expiries = Expiries()\n        self.opened = None\n\n    def next_time",
        "        self.expiries = Expiries()\n\n    def next_time",
    ),
    "the book is thrown away (4)": (
        "worker/pipeline.py",
        "        if not (stands and self._builder.undo_decided(ready, opened)):\n",
        "        if False:\n",
    ),
    "what was in flight is decided again (4)": (
        "worker/chain.py",
        "        given_up = self.uncommitted()\n",
        "        given_up = self.uncommitted()[1:]\n",
    ),
    "ids are looked up after one was taken (4)": (
        "worker/pipeline.py",
        "self._builder.is_careful = not isinstance(error, FundsArrivedError | ChainMovedError)",
        "self._builder.is_careful = False",
    ),
    "answers wait for the commit (5)": (
        "worker/chain.py",
        "        self._numbers.append(await self._store.flush(flush))\n"
        "        self._on_committed(flush, opened.replies, opened.phases)\n",
        "        self._on_committed(flush, opened.replies, opened.phases)\n"
        "        self._numbers.append(await self._store.flush(flush))\n",
    ),
    "ids under way are known (5)": (
        "book/uncommitted.py",
        "        found: dict[bytes, IdRecord] = {}\n",
        "        return {}\n        found: dict[bytes, IdRecord] = {}\n",
    ),
    "ends of holds under way are known (5)": (
        "deciding/knowledge.py",
        "status = ends.get(record.transfer.id, record.status)",
        "status = record.status",
    ),
    "balances are loaded after the claim (7)": (
        "worker/claims.py",
        "        self._builder.book.change_owned(changed.owned)\n",
        "        self._builder.book.owned[list(changed.owned)] = True\n",
    ),
    "the claim tests the owner once it has the locks (7)": (
        "store/ownership.py",
        'if r["worker"] == owner and not r["alive"]]',
        'if not r["alive"]]',
    ),
    "a claim reads owners in a statement of its own (7)": (
        "store/ownership.py",
        'await connections.write("lock_workers", sorted([connections.worker, owner]))\n'
        "                    # The next statement: one that waits for a lock reads what was before.\n"
        '                    rows = await connections.write("owners", list(shards))\n',
        'rows = await connections.write("owners", list(shards))\n'
        '                    await connections.write("lock_workers", sorted([connections.worker, owner]))\n',
    ),
    "a claim leaves who is alive alone": (
        "store/ownership.py",
        'if r["worker"] == owner and not r["alive"]]',
        'if r["worker"] == owner]',
    ),
    "what became of a lost commit is found out (8)": (
        "store/commit.py",
        "if not is_committed:",
        "if False:",
    ),
    "absence is final only once the backend is gone (8)": (
        "store/commit.py",
        'while await connections.ask(fresh, "end_backend"',
        'while False and await connections.ask(fresh, "end_backend"',
    ),
    "who is frozen is cleared out of the way (9)": (
        "store/ownership.py",
        'self._connections.watch("terminate_blockers", pid, me)',
        'self._connections.watch("terminate_blockers", 0, me)',
    ),
    "only who is dead is cleared out of the way (9)": (
        f"{HERE}statements_owning.py",
        'if heartbeat["worker"] == worker or heartbeat["expires_at"] > database.clock():',
        'if heartbeat["worker"] == worker:',
    ),
    "refresh before declining, and the look before COMMIT": (
        "worker/flush_builder.py",
        "newest = await look_up(deciding, self.book, self._store)\n",
        "deciding._ask_refresh = lambda *_: None\n"
        "            newest = await look_up(deciding, self.book, self._store)\n"
        "            deciding._draft = deciding._draft._replace(lacking=0 * deciding._draft.lacking)\n",
    ),
    "never the own stripe in a refresh": (
        f"{HERE}statements_reading.py",
        'if row["stripe"] != home]',
        "if True]",
    ),
    "what was brought meanwhile is seen before COMMIT": (
        "store/flush_writer.py",
        "        if flush.has_assumptions:\n",
        "        if False:\n",
    ),
    "who declines queues up": (
        "store/assumptions.py",
        '    await connections.write("queue_to_decline")\n',
        "",
    ),
    "the locked flush reads the owners again": (
        "store/flush_writer.py",
        "if owners <= before | {me}:",
        "if True:",
    ),
    "a limit on the credit side is decided under lock": (
        "deciding/locks.py",
        "(columns & ~book.mine[credit] & limited, credit),",
        "",
    ),
    "debits of others are decided under lock": (
        "deciding/locks.py",
        "(columns & ~book.mine[debit], debit),",
        "",
    ),
    "holds are ended where they were decided": (
        "deciding/locks.py",
        "return away if hold.transfer.flags & CLOSING else away & {hold.shard}",
        "return set()",
    ),
    "closing locks all owners": (
        "deciding/locks.py",
        "if flags & CLOSING or book.near",
        "if book.near",
    ),
    "the book takes over what a locked flush wrote": (
        "worker/flush_builder.py",
        "        self.book.take_over(result.book)\n",
        "",
    ),
    "a flush is later than the shards it writes": (
        "worker/flush_builder.py",
        "        self.time = max(self.time, self._membership.newest_time, self.waiting.mark.time)\n",
        "",
    ),
    "a flush is later than what it read of others": (
        "worker/flush_builder.py",
        "            if newest < opened.time:\n",
        "            if True:\n",
    ),
    "a locked flush is later than every shard concerned": (
        "worker/locked_flush.py",
        "time = max([time, *(progress.time + 1 for progress in concerned.values())])",
        "pass",
    ),
    "one index for ends of holds": (
        f"{HERE}tables.py",
        '{"resolutions_pkey": lambda r: r["hold_id"]}',
        '{"resolutions_pkey": lambda r: (r["hold_id"], r["number"])}',
    ),
    "what an older Redis brings back is decided": (
        "worker/repair.py",
        'known.issuperset(arrival.rows["id"].tolist())',
        "True",
    ),
    "streams that went back are read from their beginning": (
        "worker/repair.py",
        "        following = next_generation(position)\n",
        "        following = position\n",
    ),
    "a release comes after all that was decided": (
        "worker/session.py",
        "            await self._pipeline.finish_decided()\n            # Among",
        "            # Among",
    ),
    "in order: what waits for a lock holds back its stream": (
        "worker/open_flush.py",
        "(behind if arrival.entry.shard in waiting else free)",
        "(behind if at in locks else free)",
    ),
    "a freeze stands in the chains of all owners": (
        "store/freezes.py",
        '    lent = await _rows(connection, "append_lent_flush", workers, "freeze", time, number)\n'
        '    check_written("ledger.flushes", len(workers), len(lent))\n',
        '    await _rows(connection, "append_lent_flush", workers[:1], "freeze", time, number)\n',
    ),
    "a freeze locks all owners": (
        "store/freezes.py",
        "await _lock(connection, watching, sorted(before))",
        "await _lock(connection, watching, sorted(before)[:1])",
    ),
    "a freeze is later than all that was decided before": (
        "store/freezes.py",
        'time = max(clock["now"], *(row["time"] + MICROSECOND for row in owners))',
        'time = clock["now"]',
    ),
    "what is decided after a freeze is later than it": (
        "worker/flush_builder.py",
        "self._membership.newest_time, self.waiting.mark.time)",
        "self._membership.newest_time)",
    ),
    "the flush that moves the position past an entry writes that it waits": (
        "worker/chain.py",
        "flush.waiting = waiting_of(opened.arrivals)",
        "flush.waiting = ()",
    ),
    "an entry that waited is decided once": (
        "worker/chain.py",
        "flush.released = released_of(opened.arrivals)",
        "flush.released = ()",
    ),
    "what names an id that waits, waits": (
        "worker/waiting_room.py",
        "                freeze = freeze or here.freeze_of_named(arrival.rows)\n",
        "",
    ),
    "a post matches what its hold does": (
        "worker/freeze_matches.py",
        "        holds = await self._find_created(resolving, book)\n",
        "        holds: dict[bytes, Transfer] = {}\n",
    ),
    "an id that is known does not wait": (
        "worker/freeze_matches.py",
        "        known = await self._find_known(asked, book)\n",
        "        known: set[bytes] = set()\n",
    ),
    "an entry below the position that waits is deleted alone": (
        "worker/repair.py",
        " or arrival.entry.position in waiting",
        "",
    ),
    "what waits is loaded at the claim": (
        "worker/waiting_room.py",
        "in await self._store.waiting.load_waiters(new):",
        "in ():",
    ),
    "a redo goes back to who waits by what is committed": (
        "worker/waiting_room.py",
        "{*new, *self._dirty} & {*owned}",
        "{*new} & {*owned}",
    ),
    "so much waits and no more": (
        "worker/waiting_room.py",
        "if not (is_below(arrival) or here.has_room(waiter)):",
        "if False:",
    ),
    "a frozen shard is not read": (
        "worker/freeze_matches.py",
        'self.shards = {freeze.what for freeze in waits if freeze.kind == "shard"}',
        "self.shards: set[bytes | int] = set()",
    ),
    "a freeze is no conflict": (
        "worker/pipeline.py",
        "        if not (is_freeze and stands):\n",
        "        if True:\n",
    ),
    "a thaw that declines what waits": (
        "worker/freeze_matches.py",
        "if freeze.thaw is not None and since < freeze.thaw:",
        "if False:",
    ),
    "a copy is decided right after its original": (
        "worker/waiting_room.py",
        "        ended.sort(key=lambda waiter: waiter.order)\n",
        "        ended.sort(key=lambda waiter: (waiter.ids != [], waiter.order))\n",
    ),
}
