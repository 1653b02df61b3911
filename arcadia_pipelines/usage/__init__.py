"""Where usage comes from if not from PostgreSQL's `cloud.usage_records`: the engine that holds it counts it there.

A source (sources.py) is named by ARCADIA_USAGE_URL. All engines count by the same expressions (expressions.py) over one
contract of columns (contract.py), to which their answers are held (answers.py), and all say what they counted, so that
the same can be counted again.
"""
