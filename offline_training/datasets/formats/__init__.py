"""The formats of data sets, one `DatasetSource` each.

amazon, dvbpr, hm    published data sets
folders              a folder of pictures for each category
tables               two tables of your own: events and items
pickled_arrays       unpickles arrays of strangers
list_text            reads a list that was written as text
text_files           reads CSV, JSON and Python literals, plain or gzip, and counts broken records
"""
