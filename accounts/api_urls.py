"""Tokens and sessions, under ``/api/auth/``."""

from django.urls import path

from accounts import api_views as views

app_name = "auth"
urlpatterns = [
    path("token/", views.TokenView.as_view(), name="token"),
    path("token/refresh/", views.RefreshView.as_view(), name="token_refresh"),
    path("token/verify/", views.VerifyView.as_view(), name="token_verify"),
    path("logout/", views.LogoutView.as_view(), name="logout"),
    path("me/", views.MeView.as_view(), name="me"),
    path("sessions/", views.SessionsView.as_view(), name="sessions"),
    path("sessions/<uuid:id>/", views.SessionView.as_view(), name="session"),
]
