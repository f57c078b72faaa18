from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("visits", "0003_note_and_wide_weight")]
    operations = []
