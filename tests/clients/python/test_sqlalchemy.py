"""SQLAlchemy 2, unmodified. The recipe: a card column is a plain Text column, read as its mask, written only
when it changes."""

import pytest
from sqlalchemy import BigInteger, Identity, Integer, Text, create_engine, event, func, select, text, update
from sqlalchemy.dialects.postgresql import array, insert
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

VISA, VISA_MASK = "4111111111111111", "411111******1111"
MASTER, MASTER_MASK = "5555555555554444", "555555******4444"
AMEX, AMEX_MASK = "378282246310005", "378282*****0005"


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments_sqlalchemy"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    card: Mapped[str] = mapped_column(Text)
    amount: Mapped[int] = mapped_column(Integer)


@pytest.fixture(scope="module")
def engines():
    made = {user: create_engine(f"postgresql+psycopg://{user}@") for user in ("till", "desk")}
    yield made
    for engine in made.values():
        engine.dispose()


@pytest.fixture
def session(engines):
    with Session(engines["till"]) as session:
        session.execute(text("TRUNCATE payments_sqlalchemy"))
        session.commit()
        yield session


@pytest.fixture
def desk(engines):
    with Session(engines["desk"]) as session:
        yield session


@pytest.fixture
def statements(engines):
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(statement)

    event.listen(engines["till"], "before_cursor_execute", note)
    yield seen
    event.remove(engines["till"], "before_cursor_execute", note)


def add(session, *pans):
    payments = [Payment(card=pan, amount=10 * n) for n, pan in enumerate(pans, 1)]
    session.add_all(payments)
    session.commit()
    return payments


def revealed(desk, payment_id):
    return desk.scalar(select(func.pci.reveal(Payment.card)).where(Payment.id == payment_id))


def test_add_and_read_the_mask(session):
    (payment,) = add(session, VISA)
    assert payment.card == VISA_MASK
    assert payment.amount == 10


def test_add_all_in_one_statement(session):
    payments = add(session, VISA, MASTER, AMEX)
    assert [p.card for p in payments] == [VISA_MASK, MASTER_MASK, AMEX_MASK]


def test_flush_of_other_columns_does_not_touch_the_card(session, desk, statements):
    (payment,) = add(session, VISA)
    assert payment.card == VISA_MASK
    statements.clear()
    payment.amount = 77
    session.commit()
    updates = [s for s in statements if s.startswith("UPDATE")]
    assert len(updates) == 1 and "card" not in updates[0]
    assert payment.amount == 77
    assert revealed(desk, payment.id) == VISA


def test_assigning_the_mask_that_was_read_is_no_change(session, desk, statements):
    (payment,) = add(session, VISA)
    payment.card = payment.card
    statements.clear()
    session.commit()
    assert not [s for s in statements if s.startswith("UPDATE")]
    assert revealed(desk, payment.id) == VISA


def test_a_changed_card_is_written(session, desk):
    (payment,) = add(session, VISA)
    payment.card = MASTER
    session.commit()
    assert payment.card == MASTER_MASK
    assert revealed(desk, payment.id) == MASTER


def test_a_merged_form_with_the_mask_keeps_the_card(session, desk):
    (payment,) = add(session, VISA)
    form = Payment(id=payment.id, card=payment.card, amount=5)
    session.merge(form)
    session.commit()
    assert payment.amount == 5
    assert revealed(desk, payment.id) == VISA


def test_storing_a_mask_is_refused_and_the_card_stays(session, desk):
    (payment,) = add(session, VISA)
    payment.card = MASTER_MASK
    with pytest.raises(DataError) as refused:
        session.commit()
    assert refused.value.orig.sqlstate == "22P02"
    session.rollback()
    assert payment.card == VISA_MASK
    assert revealed(desk, payment.id) == VISA


def test_look_up_in_and_any(session):
    payments = add(session, VISA, MASTER, AMEX)
    assert session.scalar(select(Payment).where(Payment.card == MASTER)) is payments[1]
    found = session.scalars(select(Payment.amount).where(Payment.card.in_([VISA, AMEX])).order_by(Payment.id)).all()
    assert found == [10, 30]
    found = session.scalars(select(Payment.amount).where(Payment.card == func.any(array([VISA, MASTER]))).order_by(Payment.id)).all()
    assert found == [10, 20]
    assert session.scalar(select(Payment).where(Payment.card == "6011111111111117")) is None


def test_upsert(session):
    for amount in (5, 6):
        statement = insert(Payment).values(card=VISA, amount=amount)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[Payment.card], set_={"amount": Payment.amount + statement.excluded.amount}
            )
        )
    session.commit()
    assert session.execute(select(Payment.card, Payment.amount)).all() == [(VISA_MASK, 11)]


def test_bulk_update_and_delete_by_card(session):
    add(session, VISA, MASTER)
    session.execute(update(Payment).where(Payment.card == VISA).values(amount=1), execution_options={"synchronize_session": False})
    session.commit()
    assert session.scalars(select(Payment.amount).order_by(Payment.id)).all() == [1, 20]


def test_refused_reveal(session):
    (payment,) = add(session, VISA)
    with pytest.raises(ProgrammingError) as refused:
        revealed(session, payment.id)
    assert refused.value.orig.sqlstate == "42501"
    assert VISA not in str(refused.value)
    session.rollback()
    assert payment.card == VISA_MASK


def test_granted_reveal(session, desk):
    payments = add(session, VISA, AMEX)
    rows = desk.execute(select(Payment.card, func.pci.reveal(Payment.card)).order_by(Payment.id)).all()
    assert rows == [(VISA_MASK, VISA), (AMEX_MASK, AMEX)]
    assert len(payments) == 2


def test_unique_violation(session):
    add(session, VISA)
    session.add(Payment(card=VISA, amount=1))
    with pytest.raises(IntegrityError) as refused:
        session.commit()
    assert refused.value.orig.diag.message_detail == f"Key (card)=({VISA_MASK}) already exists."
    session.rollback()


def test_reused_statements(session):
    """psycopg prepares a statement on its own at the sixth use."""
    payments = add(session, VISA, MASTER)
    for _ in range(20):
        assert session.scalar(select(Payment.id).where(Payment.card == VISA)) == payments[0].id
        assert session.scalar(select(Payment.id).where(Payment.card == MASTER)) == payments[1].id
    generic = session.scalar(text("SELECT max(generic_plans) FROM pg_prepared_statements WHERE statement LIKE '%card = %'"))
    assert generic is not None and generic > 0
