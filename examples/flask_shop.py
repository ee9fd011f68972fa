"""Orders over HTTP, with Flask and Flask-SQLAlchemy.

python examples/flask_shop.py         brings up a database, a worker for the read model, and gunicorn on port 8000

curl -X POST localhost:8000/orders --json '{"items": ["teapot"]}' -H "Idempotency-Key: my first order"
curl localhost:8000/orders
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from ordering import Order
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from eventstore import AggregateNotFound, ConcurrencyError, Event, InvalidOperation, PostgresTransaction, Projection
from eventstore.contrib.flask import FlaskEventStore

db = SQLAlchemy()
events = FlaskEventStore()


class PlacedOrder(db.Model):  # type: ignore[name-defined,misc] made at run time
    """The keys that clients have sent: an order is placed once, however often it is asked for."""

    key: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[UUID]


class OrderLine(db.Model):  # type: ignore[name-defined,misc]
    """The read model: a row for each order, written by the projection below."""

    order_id: Mapped[str] = mapped_column(primary_key=True)
    items: Mapped[int]
    status: Mapped[str]


def create_app() -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()  # FLASK_EVENTSTORE_DSN
    events.init_app(app)
    app.config["SQLALCHEMY_DATABASE_URI"] = app.config["EVENTSTORE_DSN"].replace("postgresql:", "postgresql+psycopg:")
    db.init_app(app)
    app.register_error_handler(AggregateNotFound, answer(404))
    app.register_error_handler(ConcurrencyError, answer(409))
    app.register_error_handler(InvalidOperation, answer(422))
    app.add_url_rule("/orders", view_func=place, methods=["POST"])
    app.add_url_rule("/orders", view_func=overview)
    app.add_url_rule("/orders/<uuid:order_id>", view_func=show)
    app.add_url_rule("/orders/<uuid:order_id>/items", view_func=add, methods=["POST"])
    app.add_url_rule("/orders/<uuid:order_id>/shipment", view_func=ship, methods=["POST"])
    app.cli.command("create-tables")(db.create_all)
    return app


def answer(status: int) -> Any:
    return lambda error: ({"error": str(error)}, status)


def place() -> tuple[dict[str, Any], int]:
    """The order and the client's key are one transaction: of two requests with one key, one places an order."""
    orders = events.repository(Order, db.session)
    key = request.headers.get("Idempotency-Key", str(uuid4()))
    placed = db.session.get(PlacedOrder, key)
    if placed is not None:
        return shown(orders.load(placed.order_id)), 200
    order = Order(uuid4())
    order.place(request.get_json()["items"])
    db.session.add(PlacedOrder(key=key, order_id=order.id))
    try:
        db.session.flush()
    except IntegrityError:  # Another request with this key was faster.
        db.session.rollback()
        return shown(orders.load(db.session.get_one(PlacedOrder, key).order_id)), 200
    orders.save(order)
    db.session.commit()
    return shown(order), 201


def show(order_id: UUID) -> dict[str, Any]:
    return shown(events.repository(Order).load(order_id))


def add(order_id: UUID) -> dict[str, Any]:
    orders = events.repository(Order)
    order = orders.load(order_id)
    order.add(request.get_json()["item"])
    orders.save(order)  # ConcurrencyError, so 409, if somebody else was faster
    return shown(order)


def ship(order_id: UUID) -> dict[str, Any]:
    orders = events.repository(Order)
    order = orders.load(order_id)
    seen = request.get_json().get("version", order.version)
    if seen != order.version:
        raise ConcurrencyError(f"Order-{order_id}", seen, order.version)
    order.ship(request.get_json()["tracking_number"])
    orders.save(order)
    return shown(order)


def overview() -> list[dict[str, Any]]:
    lines = db.session.scalars(db.select(OrderLine).order_by(OrderLine.order_id))
    return [{"id": line.order_id, "items": line.items, "status": line.status} for line in lines]


def shown(order: Order) -> dict[str, Any]:
    return {
        "id": str(order.id),
        "version": order.version,
        "items": order.items,
        "tracking_number": order.tracking_number,
    }


def write_line(event: Event, transaction: PostgresTransaction) -> None:
    """Exactly once: in the transaction that stores how far the projection has come."""
    order_id = str(event.stream_id).removeprefix("Order-")
    execute = transaction.connection.execute
    match event.event_type:
        case "OrderPlaced":
            execute(
                "INSERT INTO order_line (order_id, items, status) VALUES (%s, %s, 'open')",
                [order_id, len(event.data["items"])],
            )
        case "ItemAdded":
            execute("UPDATE order_line SET items = items + 1 WHERE order_id = %s", [order_id])
        case "OrderShipped":
            execute("UPDATE order_line SET status = 'shipped' WHERE order_id = %s", [order_id])


lines = Projection(events, "order-lines", write_line, categories=["Order"], tables=["order_line"])


def main() -> None:
    """A database, its tables, a worker and a web server; all of them until Ctrl-C or SIGTERM."""
    from eventstore.postgres.embedded import EmbeddedServer  # noqa: PLC0415 not in production

    def run(*command: str) -> subprocess.Popen[bytes]:
        here = Path(__file__).parent
        return subprocess.Popen([sys.executable, "-m", *command], cwd=here, env=environment)  # noqa: S603 our own

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with EmbeddedServer() as server:
        environment = {**os.environ, "FLASK_APP": "flask_shop", "FLASK_EVENTSTORE_DSN": server.dsn}
        for command in (["eventstore", "migrate"], ["create-tables"]):
            if run("flask", *command).wait():
                sys.exit(1)
        bind = os.environ.get("BIND", "127.0.0.1:8000")
        programs = [
            run("flask", "eventstore", "run", "flask_shop:lines"),
            run(
                "gunicorn",
                "--bind",
                bind,
                "--workers",
                "2",
                "--threads",
                "8",
                "--no-control-socket",
                "flask_shop:create_app()",
            ),
        ]
        try:
            programs[-1].wait()
        except KeyboardInterrupt:
            pass
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait()


if __name__ == "__main__":
    main()
