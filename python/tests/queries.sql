-- One query a line. {a}, {b} and {c} are genes, {cell} is a cell, {type} a cell type. Answers are
-- compared as bags of rows.
SELECT COUNT(*) FROM expression
SELECT COUNT(*), SUM(value), AVG(value), MIN(value), MAX(value) FROM expression
SELECT VAR_SAMP(value), STDDEV_SAMP(value) FROM expression
SELECT COUNT(*) FROM expression WHERE value > 2
SELECT COUNT(DISTINCT value) FROM expression
SELECT value, COUNT(*) AS n FROM expression GROUP BY value
SELECT FLOOR(value / 5) * 5 AS bin, COUNT(*) FROM expression GROUP BY bin
SELECT SUM(value) FROM expression WHERE gene_id = '{a}'
SELECT SUM(value) FROM expression WHERE gene_id = 'none of them'
SELECT COUNT(*), SUM(value) FROM expression WHERE gene_id IN ('{a}', '{b}', 'none of them')
SELECT COUNT(*) FROM expression WHERE gene_id <> '{a}'
SELECT COUNT(*) FROM expression WHERE gene_id LIKE 'M%'
SELECT COUNT(*) FROM expression WHERE gene_id NOT LIKE '%1%' AND cell_id LIKE '%A%'
SELECT COUNT(*) FROM expression WHERE LOWER(gene_id) = LOWER('{a}')
SELECT COUNT(*) FROM expression WHERE gene_integer_id < 3 OR gene_integer_id = 5
SELECT COUNT(*) FROM expression WHERE gene_integer_id BETWEEN 2 AND 6 AND cell_integer_id >= 3
SELECT COUNT(*) FROM expression WHERE gene_integer_id % 2 = 0 AND cell_integer_id % 3 = 1
SELECT COUNT(*) FROM expression WHERE gene_integer_id = cell_integer_id
SELECT COUNT(*) FROM expression WHERE gene_id = '{a}' OR value > 3
SELECT * FROM expression WHERE cell_id = '{cell}'
SELECT gene_id, value FROM expression WHERE cell_integer_id = 4
SELECT gene_id, value FROM expression WHERE cell_id = '{cell}' AND gene_id IN ('{a}', '{b}', '{c}')
SELECT gene_id, SUM(value) AS total FROM expression GROUP BY gene_id
SELECT gene_id, COUNT(*) AS n_cells, AVG(value) FROM expression GROUP BY gene_id
SELECT gene_id, MAX(value), MIN(value), STDDEV_SAMP(value) FROM expression GROUP BY gene_id
SELECT gene_id, SUM(CASE WHEN value > 2 THEN value END) FROM expression GROUP BY gene_id
SELECT gene_id, COUNT(*) FILTER (WHERE value > 1) AS above FROM expression GROUP BY gene_id
SELECT gene_id, SUM(value) FILTER (WHERE value > 3) FROM expression GROUP BY gene_id
SELECT gene_integer_id, SUM(value) FROM expression WHERE value >= 2 GROUP BY gene_integer_id
SELECT gene_id, SUM(value) AS s FROM expression GROUP BY gene_id HAVING SUM(value) > 10
SELECT cell_id, COUNT(*) AS n_genes, SUM(value) AS total FROM expression GROUP BY cell_id
SELECT cell_integer_id, MAX(value), AVG(value * value) FROM expression GROUP BY cell_integer_id
SELECT cell_integer_id, COUNT(*) FROM expression WHERE gene_id LIKE 'M%' GROUP BY cell_integer_id
SELECT cell_integer_id, gene_integer_id, SUM(value) FROM expression WHERE value > 2 GROUP BY 1, 2
SELECT COUNT(*), SUM(value) FROM expression e JOIN cells c USING (cell_integer_id) WHERE c.cell_type = '{type}'
SELECT COUNT(*) FROM cells c JOIN expression e ON e.cell_integer_id = c.cell_integer_id WHERE c.n_counts > 20
SELECT c.cell_type, AVG(e.value) FROM expression e JOIN cells c USING (cell_integer_id) GROUP BY c.cell_type
SELECT c.cell_type, STDDEV_SAMP(e.value), COUNT(*) FROM expression e JOIN cells c USING (cell_integer_id) WHERE e.gene_id = '{a}' GROUP BY c.cell_type
SELECT c.batch, c.cell_type, e.gene_id, SUM(e.value) AS s FROM expression e JOIN cells c USING (cell_integer_id) GROUP BY c.batch, c.cell_type, e.gene_id
SELECT e.gene_id, c.batch, MAX(e.value) FROM expression e JOIN cells c USING (cell_integer_id) WHERE c.cell_type = '{type}' AND e.value > 1 GROUP BY e.gene_id, c.batch
SELECT c.batch, SUM(e.value) FROM expression e JOIN cells c USING (cell_id) GROUP BY c.batch
SELECT c.cell_integer_id, c.batch, SUM(e.value) FROM expression e JOIN cells c USING (cell_integer_id) GROUP BY c.cell_integer_id, c.batch
SELECT g.highly_variable, COUNT(*), SUM(e.value) FROM expression e JOIN genes g USING (gene_integer_id) GROUP BY g.highly_variable
SELECT g.gene_id, SUM(e.value) FROM expression e JOIN genes g USING (gene_integer_id) WHERE g.gene_id IN ('{a}', '{b}') GROUP BY g.gene_id
SELECT c.cell_type, g.gene_id, AVG(e.value), COUNT(*) FROM expression e JOIN genes g USING (gene_integer_id) JOIN cells c USING (cell_integer_id) WHERE g.highly_variable AND c.batch = 'b1' GROUP BY c.cell_type, g.gene_id
SELECT COUNT(*), SUM(e.value) FROM expression e JOIN genes g USING (gene_integer_id) JOIN cells c USING (cell_integer_id) WHERE g.gene_id = '{a}' AND c.cell_type = '{type}'
SELECT c.cell_id, COALESCE(e.value, 0) FROM cells c LEFT JOIN expression e ON e.cell_integer_id = c.cell_integer_id AND e.gene_id = '{a}'
SELECT COUNT(*), SUM(value) FROM expression WHERE cell_integer_id IN (SELECT cell_integer_id FROM cells WHERE cell_type = '{type}')
SELECT gene_id, SUM(value) FROM expression WHERE cell_integer_id IN (SELECT cell_integer_id FROM cells WHERE batch = 'b1') GROUP BY gene_id
SELECT COUNT(*) FROM expression WHERE gene_integer_id NOT IN (SELECT gene_integer_id FROM genes WHERE highly_variable)
SELECT cell_id FROM cells c WHERE EXISTS (SELECT 1 FROM expression e WHERE e.cell_integer_id = c.cell_integer_id AND e.gene_id = '{a}')
SELECT cell_id FROM cells WHERE cell_integer_id IN (SELECT cell_integer_id FROM expression WHERE gene_id = '{a}') AND cell_integer_id NOT IN (SELECT cell_integer_id FROM expression WHERE gene_id = '{b}')
SELECT COUNT(*) FROM expression x JOIN expression y USING (cell_integer_id) WHERE x.gene_id = '{a}' AND y.gene_id = '{b}'
SELECT CORR(x.value, y.value) FROM expression x JOIN expression y USING (cell_integer_id) WHERE x.gene_id = '{a}' AND y.gene_id = '{b}'
WITH t AS (SELECT cell_integer_id FROM cells WHERE n_counts > (SELECT AVG(n_counts) FROM cells)) SELECT e.gene_id, COUNT(*) FROM expression e JOIN t USING (cell_integer_id) GROUP BY e.gene_id
WITH m AS (SELECT c.cell_type, e.gene_id, SUM(e.value) AS s FROM expression e JOIN cells c USING (cell_integer_id) GROUP BY c.cell_type, e.gene_id) SELECT cell_type, gene_id, s FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY cell_type ORDER BY s DESC, gene_id) AS rank FROM m) ranked WHERE rank <= 3
WITH m AS (SELECT c.batch, e.gene_id, SUM(e.value) AS s FROM expression e JOIN cells c USING (cell_integer_id) GROUP BY c.batch, e.gene_id) SELECT batch, gene_id FROM m QUALIFY ROW_NUMBER() OVER (PARTITION BY batch ORDER BY s DESC, gene_id) = 1
SELECT batch, cell_type, COUNT(*), AVG(n_counts) FROM cells GROUP BY GROUPING SETS ((batch, cell_type), (batch), ())
SELECT batch, COUNT(*) FROM cells WHERE cell_type = '{type}' AND n_counts BETWEEN 5 AND 5000 GROUP BY batch
SELECT cell_type, MIN(n_counts), MAX(n_counts), COUNT(*) FILTER (WHERE batch = 'b0') FROM cells GROUP BY cell_type
SELECT cell_id, n_counts FROM cells ORDER BY n_counts DESC, cell_id LIMIT 5
SELECT batch, cell_id, RANK() OVER (PARTITION BY batch ORDER BY n_counts DESC, cell_id) FROM cells
SELECT batch, MEDIAN(n_counts) FROM cells GROUP BY batch
SELECT COUNT(*) FROM cells WHERE cell_type IS NULL
SELECT cell_type, COUNT(*) FROM cells WHERE cell_type <> '{type}' OR cell_type IS NULL GROUP BY cell_type
SELECT COUNT(*) FROM genes WHERE highly_variable
SELECT g.highly_variable, COUNT(DISTINCT e.cell_integer_id) FROM genes g JOIN expression e USING (gene_integer_id) GROUP BY g.highly_variable
SELECT SUM(log1p(value)) FROM expression
SELECT c.cell_id, SUM(log1p(normalize(e.value, c.n_counts, 10000))) FROM expression e JOIN cells c USING (cell_integer_id) WHERE e.gene_id IN ('{a}', '{b}') GROUP BY c.cell_id
SELECT gene_id, value FROM expression WHERE cell_integer_id = 1 UNION ALL SELECT gene_id, value FROM expression WHERE cell_integer_id = 2
SELECT gene_id FROM expression WHERE cell_integer_id = 1 INTERSECT SELECT gene_id FROM expression WHERE cell_integer_id = 2
SELECT SUM(counts), SUM(scaled), COUNT(*) FROM layers
SELECT gene_id, SUM(counts), MAX(scaled) FROM layers GROUP BY gene_id
SELECT c.batch, SUM(l.scaled) FROM layers l JOIN cells c USING (cell_integer_id) WHERE l.gene_id = '{a}' GROUP BY c.batch
SELECT SUM(l.counts - e.value) FROM layers l JOIN expression e USING (cell_integer_id, gene_integer_id)
SELECT SUM(value), COUNT(*) FROM obsp_connectivities WHERE cell_integer_id < 5
SELECT c.batch, SUM(o.value) FROM obsp_connectivities o JOIN cells c ON o.other_cell_integer_id = c.cell_integer_id GROUP BY c.batch
SELECT cell_id FROM cells WHERE X_pca[1] > 0 ORDER BY X_pca[2] DESC LIMIT 3
