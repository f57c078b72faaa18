"""Pages outside the admin."""

from django.urls import path

from dbops.views import dashboard, environments, healthz

urlpatterns = [
    path("", dashboard, name="dashboard"),
    path("environments/", environments, name="environments"),
    path("healthz", healthz, name="healthz"),
]
