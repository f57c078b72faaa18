"""The roles that come with Skinspire: viewer, operator, administrator. They are groups like others:
what somebody changes about them stays."""

from django.apps import apps as installed
from django.contrib.auth.management import create_permissions
from django.db import migrations

_DEEDS = (
    "back_up", "restore", "copy", "apply_triggers", "cancel", "verify_backup", "migrate",
    "maintain", "pin_backup",
)  # fmt: skip
_SEEING = ("view_operation", "view_backup", "view_schedule", "view_journalentry")
_PEOPLE = (
    "view_user", "add_user", "change_user", "view_session", "change_session", "view_accountevent",
    "view_invitation", "add_invitation", "delete_invitation",
)  # fmt: skip
ROLES = {
    "viewer": {"dbops": _SEEING},
    "operator": {
        "dbops": (
            *_SEEING,
            *(f"{deed}_{name}" for deed in _DEEDS for name in ("dev", "test")),
            "back_up_prod",
            "verify_backup_prod",
        ),
    },
    "administrator": {
        "dbops": (*_SEEING, *_DEEDS, "download_backup"), "accounts": _PEOPLE, "auth": ("view_group",),
    },
}  # fmt: skip


def ship_roles(apps, schema_editor):
    using = schema_editor.connection.alias
    for label in ("dbops", "accounts", "auth"):  # otherwise they come after the last migration
        create_permissions(installed.get_app_config(label), verbosity=0, using=using, apps=apps)
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, wanted in ROLES.items():
        group, is_new = Group.objects.using(using).get_or_create(name=name)
        for label, codenames in wanted.items() if is_new else ():
            found = Permission.objects.using(using).filter(
                content_type__app_label=label, codename__in=codenames
            )
            group.permissions.add(*found)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_tokens"),
        ("accounts", "0003_invitations_and_recovery_codes"),
        ("dbops", "0008_download_permission"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(ship_roles, migrations.RunPython.noop)]
