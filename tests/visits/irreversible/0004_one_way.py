from django.db import migrations


def forget(apps, schema_editor):
    apps.get_model("visits", "Visit").objects.filter(weight__lt=10).delete()


class Migration(migrations.Migration):
    dependencies = [("visits", "0003_note_and_wide_weight")]
    operations = [migrations.RunPython(forget)]
