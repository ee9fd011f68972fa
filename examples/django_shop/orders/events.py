"""What happens to orders. Django imports this module when it starts, so that the types of events are known."""

from __future__ import annotations

from ordering import ItemAdded, Order, OrderPlaced, OrderShipped

__all__ = ["ItemAdded", "Order", "OrderPlaced", "OrderShipped"]
