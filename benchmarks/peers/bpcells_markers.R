# Wilcoxon's test of BPCells, of logarithms of counts per 10,000.
#
#   Rscript bpcells_markers.R counts.h5ad FOLDER
#
# FOLDER has groups.txt, the group of each cell. Prints the seconds of marker_features() alone, whose
# matrix is stored by gene before, and writes foreground.txt, feature.txt and p_val_raw.bin.

suppressPackageStartupMessages(library(BPCells))
arguments <- commandArgs(trailingOnly = TRUE)
folder <- arguments[2]
groups <- readLines(file.path(folder, "groups.txt"))
counts <- transpose_storage_order(open_matrix_anndata_hdf5(arguments[1]))
normal <- log1p(multiply_cols(counts, 1e4 / colSums(counts)))
started <- proc.time()[["elapsed"]]
found <- marker_features(normal, groups, method = "wilcoxon")
seconds <- proc.time()[["elapsed"]] - started
writeLines(as.character(found$foreground), file.path(folder, "foreground.txt"))
writeLines(as.character(found$feature), file.path(folder, "feature.txt"))
to <- file(file.path(folder, "p_val_raw.bin"), "wb")
writeBin(as.double(found$p_val_raw), to)
close(to)
cat(seconds, "\n")
