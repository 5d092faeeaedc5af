"""dlt with its connectorx backend: `with_dlt.py SOURCE TARGET FOLDER`."""

import sys

import dlt
from dlt.sources.sql_database import sql_table

source, target, folder = sys.argv[1:4]
# SQLAlchemy 2.1 takes another driver unless it is named; the library that reads knows only this name.
rows = sql_table(source.replace("postgresql:", "postgresql+psycopg2:"), table="bench", schema="public", backend="connectorx",
                 backend_kwargs={"conn": source, "return_type": "arrow"})  # fmt: skip
pipeline = dlt.pipeline(
    "bench", pipelines_dir=folder, destination=dlt.destinations.postgres(target), dataset_name="public"
)
pipeline.run(rows, table_name="bench", write_disposition="replace", loader_file_format="csv")
