from django.db import models


class Ward(models.Model):
    name = models.CharField(max_length=40)


class Visit(models.Model):
    ward = models.ForeignKey(Ward, models.CASCADE)
    note = models.TextField(default="")
    created_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(null=True)
    weight = models.BigIntegerField(default=0, db_index=True)
