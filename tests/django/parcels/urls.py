from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path


def enter(request: HttpRequest) -> HttpResponse:
    """Let a browser in that can't type."""
    login(request, User.objects.get(username="root"))
    return redirect(request.GET["next"])


urlpatterns = [path("admin/", admin.site.urls), path("enter/", enter)]
