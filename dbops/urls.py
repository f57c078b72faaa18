"""Pages outside the admin."""

from django.urls import path

from dbops.views import dashboard

urlpatterns = [
    path("", dashboard, name="dashboard"),
]
