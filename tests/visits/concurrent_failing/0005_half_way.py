from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("visits", "0004_index")]
    operations = [
        migrations.RunSQL("CREATE INDEX CONCURRENTLY visits_half ON visits_visit (note)"),
        migrations.RunSQL("SELECT 1 / 0"),
    ]
