"""Times to an event, from sums by time or by hospital.

times         the grid that times are on, and how far it goes
groups        counts by group and time: what hospitals add up for curves
steps         times merged to steps that tell of no few persons
curves        Kaplan-Meier, Nelson-Aalen, medians, restricted means from a table
logrank       the test of several tables
shown         what is shown of groups
noised        the same of counts with noise
kaplan_meier  the analysis
partial       Cox's likelihood from sums over risk sets
cox           the analysis
cox_shown     what is shown of it
"""
