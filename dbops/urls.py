"""Pages outside the admin."""

from django.urls import path

from dbops.views import dashboard, healthz

urlpatterns = [
    path("", dashboard, name="dashboard"),
    path("healthz", healthz, name="healthz"),
]
