"""Alters the table whose foreign keys were not checked yet, and rewrites it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("visits", "0002_first_rows")]
    operations = [
        migrations.AddField("Visit", "note", models.TextField(default="")),
        migrations.AlterField("Visit", "weight", models.BigIntegerField(default=0)),
    ]
