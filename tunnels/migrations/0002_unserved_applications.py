from django.db import migrations
from django.db.models import Q


def mark_unserved(apps, schema_editor):
    """Applications below zones that were lost before applications knew whether they are served. Those of a name that
    has found another owner since come first in access.routing no longer."""
    application_model = apps.get_model("access", "Application")
    for zone in apps.get_model("tunnels", "Zone").objects.filter(status="moved"):
        within = Q(hostname__in=[zone.name, f"*.{zone.name}"]) | Q(hostname__endswith=f".{zone.name}")
        application_model.objects.filter(within, organization_id=zone.organization_id).update(is_served=False)


class Migration(migrations.Migration):
    dependencies = [("tunnels", "0001_initial"), ("access", "0002_served_domains")]

    operations = [migrations.RunPython(mark_unserved, migrations.RunPython.noop)]
