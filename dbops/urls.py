"""Pages outside the admin."""

from django.urls import path

from dbops.views import dashboard, environments

urlpatterns = [
    path("", dashboard, name="dashboard"),
    path("environments/", environments, name="environments"),
]
