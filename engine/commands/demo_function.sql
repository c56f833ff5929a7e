-- A ledger as a function in Postgres, in the manner of pgledger: a call is a transfer, which
-- locks both accounts, moves their balances and writes an entry for each. Accounts are numbered,
-- which costs less than ids would.
CREATE SCHEMA rival;

CREATE TABLE rival.accounts (
    id       bigint PRIMARY KEY,
    balance  bigint NOT NULL DEFAULT 0,
    version  bigint NOT NULL DEFAULT 0,
    can_owe  boolean NOT NULL
);

CREATE TABLE rival.transfers (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    debit      bigint NOT NULL REFERENCES rival.accounts,
    credit     bigint NOT NULL REFERENCES rival.accounts,
    amount     bigint NOT NULL CHECK (amount > 0),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rival.entries (
    transfer_id      uuid NOT NULL REFERENCES rival.transfers,
    account          bigint NOT NULL REFERENCES rival.accounts,
    version          bigint NOT NULL,
    amount           bigint NOT NULL,
    previous_balance bigint NOT NULL,
    current_balance  bigint NOT NULL,
    PRIMARY KEY (account, version)
);

CREATE FUNCTION rival.create_transfer(debit_id bigint, credit_id bigint, moved bigint)
    RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    transfer uuid;
    debited  rival.accounts;
    credited rival.accounts;
BEGIN
    -- Both locks in one order, so that two calls cannot wait for each other.
    PERFORM 1 FROM rival.accounts WHERE id IN (debit_id, credit_id) ORDER BY id FOR UPDATE;
    UPDATE rival.accounts SET balance = balance - moved, version = version + 1
        WHERE id = debit_id RETURNING * INTO debited;
    IF debited.balance < 0 AND NOT debited.can_owe THEN
        RAISE EXCEPTION 'account % has not enough', debit_id;
    END IF;
    UPDATE rival.accounts SET balance = balance + moved, version = version + 1
        WHERE id = credit_id RETURNING * INTO credited;
    INSERT INTO rival.transfers (debit, credit, amount) VALUES (debit_id, credit_id, moved)
        RETURNING id INTO transfer;
    INSERT INTO rival.entries VALUES
        (transfer, debit_id, debited.version, -moved, debited.balance + moved, debited.balance),
        (transfer, credit_id, credited.version, moved, credited.balance - moved, credited.balance);
    RETURN transfer;
END $$;

INSERT INTO rival.accounts (id, balance, can_owe)
SELECT id, 1000000000, false FROM generate_series(1, :accounts) AS id;
