from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("access", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="application",
            name="is_served",
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.RemoveConstraint(model_name="application", name="application_domain"),
        migrations.AddConstraint(
            model_name="application",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_served", True)),
                fields=("hostname", "path"),
                name="application_served_domain",
            ),
        ),
    ]
