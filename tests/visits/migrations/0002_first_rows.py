"""Rows, with foreign keys that are checked at the end of the transaction; written without naming a
database, as much code does."""

from django.db import migrations


def fill(apps, schema_editor):
    ward = apps.get_model("visits", "Ward").objects.create(name="north")
    visit = apps.get_model("visits", "Visit")
    visit.objects.bulk_create(visit(ward=ward, weight=number) for number in range(100))


def empty(apps, schema_editor):
    apps.get_model("visits", "Visit").objects.all().delete()
    apps.get_model("visits", "Ward").objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("visits", "0001_initial")]
    operations = [migrations.RunPython(fill, empty)]
