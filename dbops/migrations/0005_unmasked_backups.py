
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("dbops", "0004_schedule"),
    ]

    operations = [
        migrations.AddField(
            model_name="backup",
            name="unmasked",
            field=models.CharField(blank=True, max_length=10),
        ),
    ]
