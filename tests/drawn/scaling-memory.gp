reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 653,225 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 1361,468 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 6.8056in,2.3403in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'scaling-memory'.'.'.format.suffix
set multiplot
set border 3 linewidth 0.7 linecolor rgb '#444444'
set tics out nomirror scale 0.5,0.25 font ',7'
set grid ytics linetype 1 linecolor rgb '#dddddd' linewidth 0.5
set logscale x 2
set logscale y 10
unset key
unset label
unset arrow
set lmargin at screen 0.07143
set rmargin at screen 0.36833
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [62.249917:263.19714]
set yrange [3107.1337:21598.318]
set xtics ('2^{6}' 2**6,'2^{7}' 2**7,'2^{8}' 2**8)
set ytics ('4 kB' 4e3,'5 kB' 5e3,'' 6e3 1,'7 kB' 7e3,'' 8e3 1,'' 9e3 1,'10 kB' 1e4,'20 kB' 2e4)
set label 'sequence length N (tokens)' at screen 0.21988,0.10682 center font ',8' textcolor rgb '#000000'
set label 'workspace' at screen 0.07143,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.30337,0.22849 to screen 0.30337,0.92878 nohead back linecolor rgb '#999999' linewidth 0.6 dashtype (2,3)
set label 'q, k, v, o fill L1' at screen 0.31154,0.24629 left rotate font ',6.5' textcolor rgb '#777777'
set label 'linear.fused' at screen 0.38669,0.82899 left font ',7' textcolor rgb '#d55e00'
set arrow from screen 0.09619,0.62666 to screen 0.16756,0.75184 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N' at screen 0.17164,0.75184 left font ',6.5' textcolor rgb '#666666'
set arrow from screen 0.09619,0.62666 to screen 0.16756,0.87701 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N²' at screen 0.17164,0.87701 left font ',6.5' textcolor rgb '#666666'
set label '' at screen 0.01429,0.61424 center rotate font ',8' textcolor rgb '#000000'
set label 'No workspace (0): softmax.flash. 1 case without a point: 1 timeout.' at screen 0.00816,0.02522 left font ',6.5' textcolor rgb '#555555'
plot 'scaling-memory'.'.tsv' index 0 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 0 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00'
unset label
unset arrow
set lmargin at screen 0.57143
set rmargin at screen 0.86833
set bmargin at screen 0.22849
set tmargin at screen 0.92878
set xrange [62.249917:263.19714]
set yrange [758577.58:5273027]
set xtics ('2^{6}' 2**6,'2^{7}' 2**7,'2^{8}' 2**8)
set ytics ('' 8e5 1,'' 9e5 1,'1 MB' 1e6,'2 MB' 2e6,'3 MB' 3e6,'4 MB' 4e6,'5 MB' 5e6)
set label 'sequence length N (tokens)' at screen 0.71988,0.10682 center font ',8' textcolor rgb '#000000'
set label 'peak resident memory' at screen 0.57143,0.96439 left font ',8' textcolor rgb '#000000'
set arrow from screen 0.80337,0.22849 to screen 0.80337,0.92878 nohead back linecolor rgb '#999999' linewidth 0.6 dashtype (2,3)
set label 'q, k, v, o fill L1' at screen 0.81154,0.24629 left rotate font ',6.5' textcolor rgb '#777777'
set arrow from screen 0.86874,0.82899 to screen 0.88465,0.80406 nohead back linecolor rgb '#0072b2' linewidth 0.5 dashtype (2,2)
set label 'softmax.flash' at screen 0.88669,0.80406 left font ',7' textcolor rgb '#0072b2'
set arrow from screen 0.86874,0.82899 to screen 0.88465,0.85391 nohead back linecolor rgb '#d55e00' linewidth 0.5 dashtype (2,2)
set label 'linear.fused' at screen 0.88669,0.85391 left font ',7' textcolor rgb '#d55e00'
set arrow from screen 0.59619,0.62666 to screen 0.66756,0.75184 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N' at screen 0.67164,0.75184 left font ',6.5' textcolor rgb '#666666'
set arrow from screen 0.59619,0.62666 to screen 0.66756,0.87701 nohead back linecolor rgb '#888888' linewidth 0.7
set label 'N²' at screen 0.67164,0.87701 left font ',6.5' textcolor rgb '#666666'
plot 'scaling-memory'.'.tsv' index 1 using 1:2 notitle with lines linecolor rgb '#0072b2' linewidth 1.1 dashtype solid, \
     '' index 1 using 1:($5==0?$2:NaN) notitle with points pointtype 7 pointsize 0.42*symbol linecolor rgb '#0072b2', \
     '' index 2 using 1:2 notitle with lines linecolor rgb '#d55e00' linewidth 1.1 dashtype (14,4), \
     '' index 2 using 1:($5==0?$2:NaN) notitle with points pointtype 5 pointsize 0.42*symbol linecolor rgb '#d55e00'
unset multiplot
unset output
}
