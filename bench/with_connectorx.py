"""connector-x to Arrow and pyarrow to Parquet, all in memory: `with_connectorx.py SOURCE TARGET FOLDER`."""

import sys

import connectorx
import pyarrow.parquet

source, _, folder = sys.argv[1:4]
table = connectorx.read_sql(source, "select * from public.bench", return_type="arrow")
pyarrow.parquet.write_table(table, f"{folder}/bench.parquet", compression="zstd")
