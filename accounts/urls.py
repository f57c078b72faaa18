"""Pages of ``/accounts/``."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from accounts import password_views, registration_views, second_factor_views, views

app_name = "accounts"
urlpatterns = [
    path("login/", views.SignInView.as_view(), name="login"),
    path("login/code/", views.CodeView.as_view(), name="code"),
    path("logout/", LogoutView.as_view(), name="logout"),  # POST only
    path("confirm/", views.ConfirmView.as_view(), name="confirm"),
    path("register/", registration_views.AskView.as_view(), name="register"),
    path(
        "register/<str:token>/",
        registration_views.RegisterView.as_view(),
        name="register_invited",
    ),
    path("password/", password_views.ChangeView.as_view(), name="password"),
    path("password/reset/", password_views.ResetView.as_view(), name="reset"),
    path(
        "password/reset/<uidb64>/<token>/",
        password_views.NewPasswordView.as_view(),
        name="new_password",
    ),
    path("sessions/", views.sessions, name="sessions"),
    path("sessions/end-others/", views.end_others, name="end_others"),
    path("sessions/<uuid:sid>/end/", views.end_one, name="end_session"),
    path("second-factor/", second_factor_views.state, name="second_factor"),
    path("second-factor/begin/", second_factor_views.begin, name="second_factor_begin"),
    path("second-factor/set-up/", second_factor_views.set_up, name="second_factor_set_up"),
    path("second-factor/codes/", second_factor_views.renew_codes, name="second_factor_codes"),
    path("second-factor/remove/", second_factor_views.remove, name="second_factor_remove"),
]
