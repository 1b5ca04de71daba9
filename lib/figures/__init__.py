"""Figures: data in, Figure out.

    style              the look of every figure, and the only place with colours and sizes
    spd                components beside the weights they should be, importances, V and U
    topoloss           what the operator of the loss reads and hides, how the loss pulls, what it does alone
    statistics         what repeated experiments report, and how often their intervals hold the truth
    contact_sheet      what a data set looks like
"""
