"""Data sets as people have them, read as streams into two tables: who did what with which item, and what the items are.

    files      text and JSON from plain or gzip files, broken pieces counted
    records    the two tables' rows, and what is left out with its reason
    amazon, dvbpr, hm, folders, tables    one module a source
    picture_files    the pictures, in folders and in archives
    labels     category paths to a vocabulary of labels
    prepare    a source to a folder that training and replay read

Nothing here needs torch.
"""
