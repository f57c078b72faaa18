from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("visits", "0003_note_and_wide_weight")]
    operations = [
        migrations.AddField("Ward", "beds", models.IntegerField(default=1)),
        migrations.RunSQL("UPDATE visits_ward SET beds = beds / 0", migrations.RunSQL.noop),
    ]
