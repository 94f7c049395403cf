"""Data sets as people have them, converted to one folder that training and replay read.

    records          the rows that every format is read into, and what was left out with its reason
    ids              the text of an id, and which id of one table means which of another
    encodings        the encoding of a text file
    arrays           opens arrays whose claims fit their file
    picture_folders  which files a data set may name as its pictures
    picture_ref      where the picture of an item is: at a URL, in a file, or in a ZIP archive
    picture_files    reads pictures from files and archives
    formats/         one module per format
    labels           turns category paths into labels
    prepare          writes the folder: `events.parquet`, `items.parquet` and `dataset.json`
    parquet          pyarrow, or one clear error where it is missing
    cli              `tastestream dataset`

Nothing here needs torch.
"""
