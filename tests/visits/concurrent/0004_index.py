from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("visits", "0003_note_and_wide_weight")]
    operations = [
        AddIndexConcurrently("Visit", models.Index(fields=["weight"], name="visits_weight")),
    ]
