"""``manage.py test``."""

from __future__ import annotations

from uuid import uuid4

from django.contrib.auth.models import User
from django.test import TestCase

from eventstore.contrib.django import repository
from eventstore.contrib.django.test import EventStoreMixin
from orders.events import Order
from orders.models import OrderLine


class OrderTests(EventStoreMixin, TestCase):
    def test_a_line_says_what_happened(self) -> None:
        order = Order(uuid4())
        order.place(["teapot"])
        order.add("cup")
        order.ship("1Z")
        repository(Order).save(order)
        self.run_subscriptions()
        line = OrderLine.objects.get()
        self.assertEqual((line.order_id, line.items, line.status), (order.id, 2, "shipped"))  # noqa: PT009 Django's way

    def test_one_key_places_one_order(self) -> None:
        for status in (201, 200):
            answer = self.client.post(
                "/orders", {"items": ["teapot"]}, content_type="application/json", headers={"Idempotency-Key": "k"}
            )
            self.assertEqual(answer.status_code, status)  # noqa: PT009
        self.run_subscriptions()
        self.assertEqual(OrderLine.objects.count(), 1)  # noqa: PT009

    def test_the_admin_shows_what_happened(self) -> None:
        order = Order(uuid4())
        order.place(["teapot"])
        repository(Order).save(order)
        self.run_subscriptions()
        self.client.force_login(User.objects.create_superuser("admin"))
        self.assertContains(self.client.get("/admin/eventstore/event/?q=Order"), "OrderPlaced")
        self.assertContains(self.client.get("/admin/eventstore/stream/"), f"Order-{order.id}")
        self.assertContains(self.client.get("/admin/orders/orderline/"), str(order.id))
